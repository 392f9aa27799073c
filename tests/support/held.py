"""Whether an object is still referenced."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def let_go(held: object) -> Iterator[None]:
    """Fails where something holds the object at the block's end that did not at its beginning, without the
    garbage collector's help: what a cycle holds counts."""
    gc.collect()
    gc.disable()
    references = sys.getrefcount(held)
    try:
        yield
        assert sys.getrefcount(held) == references
    finally:
        gc.enable()
