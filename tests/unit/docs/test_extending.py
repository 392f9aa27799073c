"""docs/extending.md shows the examples of this folder, word for word.

After a change of one, run this module with ``UPDATE_GOLDEN=1`` in the environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

PAGE = Path("docs/extending.md")


@pytest.mark.parametrize("example", ["test_filter_example.py", "test_routing_example.py"])
def test_the_page_shows_the_example(example: str) -> None:
    code = (
        Path(__file__).with_name(example).read_text().removeprefix("from __future__ import annotations\n\n")
    )
    block = re.compile(rf"(?<=<!-- {re.escape(example)} -->\n\n```python\n).*?(?=```\n)", re.DOTALL)
    page = PAGE.read_text()
    assert block.search(page), f"{PAGE} does not show {example}"
    shown = block.sub(lambda _: code, page, count=1)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(shown)
    assert shown == PAGE.read_text(), "run it with UPDATE_GOLDEN=1"
