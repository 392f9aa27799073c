"""The files and folders that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

# The folders that a path in a page may be relative to.
_ROOTS = {
    "docs/architecture.md": (
        ".",
        "sidecar",
        "sidecar/http/h2",
        "sidecar/process",
        "sidecar/upstream",
        "controlplane",
        "controlplane/injection",
        "controlplane/networking",
        "controlplane/sources",
        "controlplane/webhooks",
    ),
    "docs/extending.md": (
        ".",
        "docs",
        "sidecar",
        "sidecar/upstream/load_balancer",
        "sidecar/xds/decode",
        "tests/unit/sidecar/xds/decode",
    ),
}
_PATH = re.compile(r"(?<![\w/.<>-])(?:\w+/)*(?:\w+\.(?:py|md|proto|yaml)|\w+/)(?![\w<>/])")


@pytest.mark.parametrize("page", _ROOTS)
def test_paths_exist(page: str) -> None:
    text = re.sub(
        r"```python\n.*?```|<!--.*?-->|\]\([^)]*\)|https?://\S+", "", Path(page).read_text(), flags=re.DOTALL
    )
    paths = set(_PATH.findall(text))
    assert len(paths) > 15
    missing = {path for path in paths if not any(Path(root, path).exists() for root in _ROOTS[page])}
    assert not missing
