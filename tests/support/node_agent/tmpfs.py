"""File systems in memory on the machine (mount(2)), and the removal of folders that may contain them."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

MNT_DETACH = 2  # unmounted at once for the machine; a container that still has it keeps it until it ends

_LIBC = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(folder: Path, *, mode: int, size_bytes: int | None) -> None:
    """Raises OSError."""
    options = f"mode={mode:o}" + ("" if size_bytes is None else f",size={size_bytes}")
    _check(_LIBC.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode()), folder)


def remove_folder(folder: Path) -> None:
    """Unmounts the file systems in it first."""
    for mounted in mounts_in(folder):
        _check(_LIBC.umount2(os.fsencode(mounted), MNT_DETACH), mounted)
    shutil.rmtree(folder, ignore_errors=True)


def mounts_in(folder: Path) -> list[Path]:
    """The deepest first."""
    mounted = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((path for path in mounted if path.is_relative_to(folder)), reverse=True)


def _check(result: int, path: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
