"""`make compiled`: the sidecar with its data path compiled, in a folder of its own; prints the folder.

``.cache/compiled/<Python>-<hash>/`` holds a copy of the package `sidecar` and its shared library. The hash is
of the sources and of the tools, so a folder is built once. Of earlier folders the last is kept, which may be
in use. To run the copy: ``PYTHONSAFEPATH=1 PYTHONPATH=<folder>:<root of the repository>``.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".cache" / "compiled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--existing", action="store_true", help="only print the folder of an existing build")
    parser.add_argument("--html", metavar="FILE", help="write what functions compile to; build nothing")
    options = parser.parse_args()
    if options.html:
        annotate(options.html)
        return
    if not options.existing:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with (FOLDER / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            build = build_folder()
            if not build.is_dir():
                compile_into(build)
    build = build_folder()
    if build.is_dir():
        print(build)


def build_folder() -> Path:
    """Where the build of the present sources is, or would be."""
    digest = hashlib.sha256()
    sources = [*ROOT.glob("sidecar/**/*.py"), *ROOT.glob("sidecar/**/*.pyx"), *ROOT.glob("protos/*.py")]
    for source in sorted([*sources, ROOT / "setup.py"]):
        digest.update(f"{source.relative_to(ROOT)}\0".encode() + source.read_bytes() + b"\0")
    for tool in ("Cython", "mypy", "setuptools"):
        digest.update(f"{tool} {version(tool)}\0".encode())
    digest.update(sys.version.encode() + _compiler_version())
    return FOLDER / f"{_tag()}-{digest.hexdigest()[:16]}"


def compile_into(build: Path) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        temporary = Path(folder)
        built = temporary / "built"
        shutil.copytree(ROOT / "sidecar", built / "sidecar", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "setup.py", "--quiet", "build_ext"]
        command += ["--build-lib", str(built), "--build-temp", str(temporary / "objects")]
        environment = {**os.environ, "OUTRIGGER_COMPILE": "1", "CCACHE_BASEDIR": str(ROOT)}
        if shutil.which("ccache"):
            environment["CC"] = f"ccache {_compiler()}"
        if subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode:
            sys.exit("the data path was not compiled")
        if build_folder() != build:
            sys.exit("the sources changed while they were compiled: run it again")
        for older in sorted(FOLDER.glob(f"{_tag()}-*"), key=lambda path: path.stat().st_mtime)[:-1]:
            shutil.rmtree(older)
        built.rename(build)


def annotate(file: str) -> None:
    """Writes mypyc's annotated sources: marked lines use slow paths of the interpreter, with the reason."""
    from mypyc.build import mypycify  # slow to import

    modules = runpy.run_path(str(ROOT / "setup.py"))["compiled_modules"]()
    options = ["--config-file=", "--ignore-missing-imports", "--no-site-packages", "-a", file]
    with tempfile.TemporaryDirectory() as folder:
        mypycify([*options, f"--cache-dir={folder}/mypy", *modules], multi_file=True, target_dir=folder)


def _compiler_version() -> bytes:
    """Empty without a compiler: then nothing has been built, and a build ends with an error that says why."""
    try:
        return subprocess.run([_compiler(), "--version"], stdout=subprocess.PIPE, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""


def _compiler() -> str:
    return os.environ.get("CC", "cc")


def _tag() -> str:
    return str(sys.implementation.cache_tag)


if __name__ == "__main__":
    main()
