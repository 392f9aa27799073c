from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

from sidecar.build_info import BUILD, COMPILED, VERSION
from tests.support.builds import ASKED_FOR, compiled_modules


def test_the_version_is_that_of_the_package() -> None:
    assert version("outrigger") == VERSION


def test_the_build_that_was_asked_for_runs() -> None:
    """No module that should be compiled is read from its source, and none was compiled next to it."""
    suffix = ".so" if ASKED_FOR == "compiled" else ".py"
    assert (ASKED_FOR == "compiled", f"{VERSION}/{ASKED_FOR}") == (COMPILED, BUILD)
    files = {name: import_module(name).__file__ or "" for name in compiled_modules()}
    assert len(files) > 100
    assert [name for name, file in files.items() if not file.endswith(suffix)] == []
    assert ("sidecar.http.h1._head" in sys.modules) == (ASKED_FOR == "compiled")
