"""The command line of the machine that replaces an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

Images = Mapping[str, list[str]]


class UnknownImageError(Exception):
    """The table has no such image."""


def read_images(file: Path) -> Images:
    """A table in YAML or JSON: by the image, the command line of its entry point, which may be empty.

    Raises ValueError where it is anything else.
    """
    table = yaml.safe_load(file.read_text())
    if not isinstance(table, dict) or not all(map(is_command_line, table.values())):
        raise ValueError(f"{file}: not a table of images, each with a list of words")
    return table


def is_command_line(words: object) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def entry_point(images: Images, image: str) -> list[str]:
    """Raises UnknownImageError."""
    if image not in images:
        raise UnknownImageError(
            f"the node's table of images has no {image!r}; it has {', '.join(sorted(images))}"
        )
    return images[image]
