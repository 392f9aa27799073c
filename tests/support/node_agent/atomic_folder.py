"""A folder whose files change all at once, in the way that Kubernetes' volumes do.

The files are in a folder of their own version, `..data` is a link to the present one, and each visible name
is a link through it: `token -> ..data/token`. A new version takes effect when `..data` is replaced.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DATA = "..data"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Owned by root and its group where it does not say."""

    content: bytes
    mode: int
    user: int = 0
    group: int = 0


class AtomicFolder:
    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._files: Mapping[str, File] | None = None

    def write(self, files: Mapping[str, File]) -> None:
        """The files by their paths in the folder. Does nothing where they are there already."""
        if files == self._files:
            return
        before = self._present_version()
        version = Path(tempfile.mkdtemp(prefix="..", dir=self.path))
        version.chmod(0o755)
        for name, file in files.items():
            target = version / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)
            os.chown(target, file.user, file.group)
            target.chmod(file.mode)
        replace_link(self.path / DATA, version.name)
        self._show({Path(name).parts[0] for name in files})
        if before is not None:
            shutil.rmtree(before)
        self._files = dict(files)

    def _present_version(self) -> Path | None:
        with suppress(FileNotFoundError):
            return self.path / os.readlink(self.path / DATA)
        return None

    def _show(self, names: set[str]) -> None:
        shown = {entry.name for entry in self.path.iterdir() if not entry.name.startswith("..")}
        for name in names - shown:
            replace_link(self.path / name, f"{DATA}/{name}")
        for name in shown - names:
            (self.path / name).unlink()


def replace_link(link: Path, target: str) -> None:
    """Replaces it in one step: readers see the old or the new contents."""
    temporary = link.with_name(f"..{link.name.lstrip('.')}_tmp")
    temporary.symlink_to(target)
    temporary.rename(link)
