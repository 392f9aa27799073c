"""The folder that a control plane follows, changed as a user's editor does it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support.documents import Document


class MeshFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, *documents: Document) -> None:
        """Creates a file, or replaces it at once."""
        self.write_text(name, yaml.safe_dump_all(documents, sort_keys=False))

    def write_text(self, name: str, text: str) -> None:
        draft = self.path / f".{name}.tmp"
        draft.write_text(text)
        draft.replace(self.path / f"{name}.yaml")

    def remove(self, name: str) -> None:
        (self.path / f"{name}.yaml").unlink()
