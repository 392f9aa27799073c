"""How many inputs the tests of this folder try: `make fuzz` multiplies them by ``FUZZ_SCALE``."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

SCALE: Final = int(os.environ.get("FUZZ_SCALE", "1"))


def examples(count: int) -> settings:
    """A decorator of tests."""
    return settings(max_examples=count * SCALE)
