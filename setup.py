"""Compiles the data path: the modules of `COMPILED` by mypyc, into one shared library, and loops over bytes
by Cython. Uncompiled, they run as they are.

``OUTRIGGER_COMPILE``: ``1`` compiles, or fails; ``0`` does not compile; if it is not set, they are compiled
where a C compiler works. An editable install never compiles: libraries next to the sources would shadow later
edits. `make compiled` is for development.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The modules that mypyc compiles: packages with everything in them, and single modules.
COMPILED = (
    "sidecar/authority.py",
    "sidecar/config",
    "sidecar/errors.py",
    "sidecar/filters",
    "sidecar/grpc_status.py",
    "sidecar/http",
    "sidecar/listener",
    "sidecar/observability",
    "sidecar/proxy_protocol.py",
    "sidecar/regex.py",
    "sidecar/router",
    "sidecar/timers.py",
    "sidecar/transport",
    "sidecar/upstream",
)
# Work on bytes, which Cython compiles. Each has a twin in Python.
BYTE_LOOPS = (
    "sidecar/http/h1/_head.pyx",
    "sidecar/transport/_forwarder.pyx",
    "sidecar/transport/_read_buffer.pyx",
)

_FOLDER = f"build/{sys.implementation.cache_tag}"  # of the generated C files
_BUILD_COMMANDS = {"build", "build_ext", "bdist_wheel"}  # an editable install has others


def compiled_modules() -> list[str]:
    """The paths of the modules that mypyc compiles, relative to this file, sorted."""
    root = Path(__file__).parent
    found: list[Path] = []
    for path in (root / entry for entry in COMPILED):
        found += [path] if path.suffix else path.rglob("*.py")
    return sorted(str(path.relative_to(root)) for path in found if path.name != "__init__.py")


def extensions() -> list[Any]:
    """The shared library, a small module for each compiled one that imports it, and Cython's modules."""
    if not _BUILD_COMMANDS.intersection(sys.argv) or not _wanted():
        return []
    from Cython.Build import cythonize  # noqa: PLC0415 -- build requirements, only where they are used
    from mypyc.build import mypycify  # noqa: PLC0415

    # Without the types of installed packages, so that the result does not depend on them: pip installs none.
    options = [
        "--config-file=",
        "--ignore-missing-imports",
        "--no-site-packages",
        f"--cache-dir={_FOLDER}/mypy",
    ]
    compiled: list[Any] = mypycify(
        [*options, *compiled_modules()],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name="sidecar",
        target_dir=_FOLDER,
    )
    for extension in compiled:
        extension.extra_compile_args = [*extension.extra_compile_args, "-Wno-error"]
    byte_loops = [
        Extension(path.removesuffix(".pyx").replace("/", "."), [path], extra_compile_args=["-O2", "-g0"])
        for path in BYTE_LOOPS
    ]
    return compiled + list(cythonize(byte_loops, build_dir=_FOLDER, quiet=True))


def _wanted() -> bool:
    """Ends the build if `OUTRIGGER_COMPILE` demands more than this machine can do."""
    choice = os.environ.get("OUTRIGGER_COMPILE", "")
    if choice not in {"", "0", "1"}:
        sys.exit(f"OUTRIGGER_COMPILE must be 0 or 1, not {choice!r}")
    if choice == "0":
        return False
    obstacle = _obstacle()
    if obstacle and choice == "1":
        sys.exit(f"OUTRIGGER_COMPILE is 1, but the data path cannot be compiled: {obstacle}")
    if obstacle:
        print(f"The data path is not compiled, and costs more CPU: {obstacle}", file=sys.stderr)
    return not obstacle


def _obstacle() -> str:
    """The reason why this machine cannot compile; empty if it can."""
    for module, project in (("mypyc", "mypy"), ("Cython", "cython")):
        if find_spec(module) is None:
            return f"{project} is not installed"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC"))
    with TemporaryDirectory() as folder:
        source = Path(folder) / "check.c"
        source.write_text("#include <Python.h>\n")
        command = [*compiler, f"-I{sysconfig.get_path('include')}", "-c", source, "-o", f"{folder}/check.o"]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            return f"no C compiler is installed ({error})"
        except subprocess.CalledProcessError as error:
            return f"the C compiler fails, or Python's header files are not installed:\n{error.stderr}"
    return ""


class BuildCompiled(build_ext):
    """Compiles several C files at a time."""

    def build_extensions(self) -> None:
        compile_files = self.compiler.compile

        def compile_each(sources: list[str], **options: Any) -> list[str]:
            with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:  # each waits for a process
                objects = threads.map(lambda source: compile_files([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = compile_each
        super().build_extensions()


if __name__ == "__main__":
    setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCompiled})
