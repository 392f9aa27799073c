"""The two builds of the data path: `make test` runs its tests with each of them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any, Final

ASKED_FOR: Final = "compiled" if any("/.cache/compiled/" in entry for entry in sys.path) else "python"
"""``compiled`` where a folder of `make compiled` is on the path."""


def compiled_modules() -> list[str]:
    """The names of the modules that `setup.py` compiles with mypyc."""
    return [path.removesuffix(".py").replace("/", ".") for path in _setup()["compiled_modules"]()]


def byte_loops() -> list[str]:
    """The names of the modules that it compiles with Cython."""
    return [path.removesuffix(".pyx").replace("/", ".") for path in _setup()["BYTE_LOOPS"]]


def _setup() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "setup.py"))
