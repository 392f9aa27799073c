"""What is in an image: its files, their sizes, and the programs and rights that it must not have."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Final

from tests.images.build import Image
from tests.support.builds import byte_loops, compiled_modules

PACKAGES: Final = "/usr/local/lib/python3.13/dist-packages"

# Tools of an attacker, and of builds.
_UNWANTED: Final = frozenset(
    {
        "apt",
        "apt-get",
        "bash",
        "busybox",
        "cc",
        "curl",
        "dash",
        "dpkg",
        "g++",
        "gcc",
        "ld",
        "make",
        "perl",
        "pip",
        "pip3",
        "sh",
        "strip",
        "su",
        "wget",
    }
)
_TESTS: Final = frozenset({"test", "tests", "idle_test"})
_ELF_MACHINES: Final = {"amd64": 0x3E, "arm64": 0xB7}
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def size(image: Image) -> int:
    """In bytes, unpacked."""
    return sum(path.lstat().st_size for _, path in _files(image) if not path.is_dir() or path.is_symlink())


def compressed_size(image: Image) -> int:
    """In bytes, as a registry stores the layers: tar and gzip."""
    script = 'tar --create --directory "$0" . | gzip | wc --bytes'
    return sum(
        int(subprocess.run(["sh", "-c", script, layer], capture_output=True, text=True, check=True).stdout)
        for layer in image.layers
    )


def problems(image: Image, architecture: str) -> list[str]:
    """Sorted; empty for a good image."""
    files = dict(_files(image))
    found = {problem for name, path in files.items() for problem in _of_file(name, path, architecture)}
    return sorted({*found, *_uncompiled(files.keys(), architecture)})


def _uncompiled(names: Set[str], architecture: str) -> Iterator[str]:
    """The modules of the data path without a library that the image's Python finds, unless the image has no
    data path."""
    suffix = f".cpython-313-{_MACHINES[architecture]}-linux-gnu.so"
    for module in (*compiled_modules(), *byte_loops()):
        path = f"{PACKAGES}/{module.replace('.', '/')}"
        if f"{PACKAGES}/sidecar" in names and path + suffix not in names:
            yield f"{path}{suffix} is missing: the module is not compiled"


def _of_file(name: str, path: Path, architecture: str) -> Iterator[str]:
    mode = path.lstat().st_mode
    if path.name in _UNWANTED and "/bin/" in name.replace("/sbin/", "/bin/") and not stat.S_ISDIR(mode):
        yield f"{name} is a program that the image does not need"
    if stat.S_ISDIR(mode) and path.name in _TESTS and "/python3" in name:
        yield f"{name} has tests"
    if stat.S_ISLNK(mode):
        return
    if mode & (stat.S_ISUID | stat.S_ISGID):
        yield f"{name} is setuid or setgid"
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        yield f"{name} can be written by every user"
    if stat.S_ISREG(mode) and (machine := _elf_machine(path)) not in (None, _ELF_MACHINES[architecture]):
        yield f"{name} is a program for another architecture ({machine:#x})"


def _elf_machine(path: Path) -> int | None:
    """The field e_machine of a program or library; None for other files."""
    with path.open("rb") as file:
        header = file.read(20)
    return int.from_bytes(header[18:20], "little") if header[:4] == b"\x7fELF" else None


def _files(image: Image) -> Iterator[tuple[str, Path]]:
    for layer in image.layers:
        for path in layer.rglob("*"):
            yield f"/{path.relative_to(layer)}", path
