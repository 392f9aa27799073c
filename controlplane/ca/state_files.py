"""Keys and certificates in files: created once or replaced whole, secrets for their owner alone."""

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
    """Raises `SettingsError` when the file cannot be read, or when others could read or have written it."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in (0, os.geteuid()):
        raise SettingsError(f"{path} holds a private key, but belongs to the user {found.st_uid}")
    if mode & _OTHERS:
        raise SettingsError(
            f"{path} holds a private key, but its mode {mode:04o} opens it to others: chmod 600 it"
        )
    return content


def replace(path: Path, content: bytes, *, mode: int) -> None:
    """Writes a file that is whole at any moment for those who read it. Raises `SettingsError`."""
    try:
        _make_folder(path.parent)
        with _draft(path, content, mode) as draft:
            os.replace(draft, path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _create_once(path: Path, content: bytes) -> None:
    # A link, unlike a rename, fails when the name is taken.
    with _draft(path, content, 0o600) as draft, contextlib.suppress(FileExistsError):
        os.link(draft, path)


@contextlib.contextmanager
def _draft(path: Path, content: bytes, mode: int) -> Iterator[str]:
    """The whole content on disk, beside ``path``; nobody else could open it meanwhile. It goes away again."""
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
