"""Mounted files, which may be replaced while the process runs."""

from __future__ import annotations

from pathlib import Path

from sidecar.errors import IdentityError


class WatchedFile:
    """Remembers the content of the file. A file that cannot be read counts as unchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._read()

    def changed(self) -> bool:
        """Whether the content has changed since the last call."""
        content = self._read()
        if content is None or content == self._content:
            return False
        self._content = content
        return True

    def _read(self) -> bytes | None:
        try:
            return read_file(self._path)
        except IdentityError:
            return None


def read_file(path: Path) -> bytes:
    """Raises `IdentityError` with the path and the reason."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityError(f"{path}: cannot be read: {error.strerror or error}") from error
