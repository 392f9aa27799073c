"""A mounted file that may be replaced while the process runs."""

from __future__ import annotations

from pathlib import Path

from sidecar.errors import IdentityError
from sidecar.identity.client import read_file


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
