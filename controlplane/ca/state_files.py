"""Files of keys and certificates. They are created once or replaced atomically; only the owner can read
secrets."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from controlplane.errors import SettingsError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """Returns the content of ``path``. Creates the file with the result of ``make`` when it does not exist;
    of processes that start at the same time, one creates the file and all of them read it. Raises
    `SettingsError`."""
    try:
        _make_folder(path.parent)
        if not path.exists():
            _create_once(path, make())
    except OSError as error:
        raise SettingsError(f"cannot create {path}: {error.strerror}") from error
    return read_secret(path)


def read_secret(path: Path) -> bytes:
    """Raises `SettingsError` when the file cannot be read, belongs to another user, or is accessible to
    others."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in (0, os.geteuid()):
        raise SettingsError(f"{path} contains a private key, but belongs to user {found.st_uid}")
    if mode & _OTHERS:
        raise SettingsError(
            f"{path} contains a private key, but its mode {mode:04o} allows access to others: chmod 600 it"
        )
    return content


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Replaces a file atomically: a reader sees the old or the new content. Raises `SettingsError`."""
    try:
        _make_folder(path.parent)
        with _draft(path, content, mode) as draft:
            os.replace(draft, path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create_once(path: Path, content: bytes) -> None:
    # Unlike a rename, a link fails when the file exists.
    with _draft(path, content, 0o600) as draft, contextlib.suppress(FileExistsError):
        os.link(draft, path)


@contextlib.contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[str]:
    """Writes the content to a temporary file in the folder of ``path`` and yields its path. The file has mode
    0600 while it is written, and is removed afterwards."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):  # it was renamed
            os.unlink(draft)
