"""The command line of the machine that replaces an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`entry_point` may be empty. `user` is for pods without `runAsUser`. `environment` are its
    variables, such as another PATH."""

    entry_point: tuple[str, ...]
    user: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


Images = Mapping[str, Image]


class UnknownImageError(Exception):
    """The table has no such image."""


def read_images(file: Path) -> Images:
    """A table in YAML or JSON: by the image, the command line of its entry point, or an object with that as
    `command` and the image's `user` and `environment`.

    Raises ValueError where it is anything else.
    """
    table = yaml.safe_load(file.read_text())
    try:
        return {name: read_image(value) for name, value in table.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: not a table of images: {error}") from error


def read_image(value: Any) -> Image:
    fields = value if isinstance(value, dict) else {"command": value}
    match fields:
        case {"command": list(words), **rest} if all(isinstance(word, str) for word in words):
            return Image(entry_point=tuple(words), **rest)
    raise ValueError(f"neither a list of words nor an object with `command`: {value!r}")


def image_of(images: Images, name: str) -> Image:
    """Raises UnknownImageError."""
    if name not in images:
        raise UnknownImageError(
            f"the node's table of images has no {name!r}; it has {', '.join(sorted(images))}"
        )
    return images[name]
