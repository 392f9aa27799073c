"""Keys and certificates in files: created once or replaced whole, secrets for their owner alone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from controlplane.errors import SettingsError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of ``path``, made first when there is none. Of processes that start at once, one's content
    wins, whole, and all of them read it. Raises `SettingsError`."""
    try:
        _make_folder(path.parent)
        if not path.exists():
            _create_once(path, make())
    except OSError as error:
        raise SettingsError(f"cannot create {path}: {error.strerror}") from error
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """Raises `SettingsError` when the file cannot be read, or when others than its owner could."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    if mode & _OTHERS:
        raise SettingsError(
            f"{path} holds a private key, but its mode {mode:04o} opens it to others: chmod 600 it"
        )
    return content


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Writes a file that is whole at any moment for those who read it. Raises `SettingsError`."""
    try:
        _make_folder(path.parent)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create_once(path: Path, content: bytes) -> None:
    # mkstemp creates with mode 0600; a link, unlike a rename, fails when the name is taken.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
