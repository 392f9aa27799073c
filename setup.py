"""Compiles the data path by mypyc: the modules of `COMPILED`, into one shared library. Uncompiled, they run
as they are.

``OUTRIGGER_COMPILE=1`` compiles. An editable install never compiles: a library next to the sources would
shadow later edits. `make compiled` is for development.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The modules that are compiled: packages with everything in them, and single modules.
COMPILED = (
    "sidecar/authority.py",
    "sidecar/config",
    "sidecar/errors.py",
    "sidecar/filters",
    "sidecar/grpc_status.py",
    "sidecar/http",
    "sidecar/listener",
    "sidecar/observability",
    "sidecar/regex.py",
    "sidecar/router",
    "sidecar/timers.py",
    "sidecar/transport",
    "sidecar/upstream",
)
# Loops over bytes, compiled by Cython; each has a twin in Python that is used without it.
BYTE_LOOPS = ("sidecar/http/h1/_head.pyx",)
# The modules of these packages that stay interpreted, and why.
INTERPRETED: dict[str, str] = {}


def compiled_modules() -> list[str]:
    """The paths of the modules that are compiled, relative to this file, sorted."""
    modules = []
    for entry in map(Path, COMPILED):
        paths = [entry] if entry.suffix else sorted(entry.rglob("*.py"))
        modules += [
            str(path) for path in paths if path.name != "__init__.py" and str(path) not in INTERPRETED
        ]
    return sorted(modules)


class BuildCompiled(build_ext):
    """Compiles the C files in parallel."""

    def build_extensions(self) -> None:
        _compile_in_parallel(self.compiler)
        super().build_extensions()


def _compile_in_parallel(compiler: Any) -> None:
    """Each C file in a thread that waits for the compiler's process."""
    compile_all = compiler.compile

    def compile_each(sources: list[str], **options: Any) -> list[str]:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            objects = threads.map(lambda source: compile_all([source], **options), sources)
            return [name for names in objects for name in names]

    compiler.compile = compile_each


def extensions() -> list[Any]:
    """The shared library, a module for each compiled one that imports it, and those of `BYTE_LOOPS`."""
    if os.environ.get("OUTRIGGER_COMPILE") != "1" or not _BUILDING.intersection(sys.argv):
        return []
    from Cython.Build import cythonize  # noqa: PLC0415 -- only where the modules are compiled
    from mypyc.build import mypycify  # noqa: PLC0415

    target = f"build/c-{sys.implementation.cache_tag}"
    options = ["--config-file=", "--ignore-missing-imports", "--cache-dir=build/mypy"]
    byte_loops = [
        Extension(path.removesuffix(".pyx").replace("/", "."), [path], extra_compile_args=["-O2", "-g0"])
        for path in BYTE_LOOPS
    ]
    compiled: list[Any] = mypycify(
        [*options, *compiled_modules()],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name="sidecar",
        target_dir=target,
    )
    return compiled + cythonize(byte_loops, build_dir=target, quiet=True)


_BUILDING = {"build", "build_ext", "bdist_wheel"}
setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCompiled})
