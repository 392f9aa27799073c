"""Fields that Istio has replaced, and that manifests still use: they work, with a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.resources.base import Message


@dataclass(frozen=True, slots=True)
class Deprecated:
    """Marks a field. ``advice`` tells the author the meaning of the field, or an alternative."""

    advice: str


def deprecations(message: Message, path: str) -> Iterator[str]:
    """``path: advice`` for each deprecated field that is set in a message or in one inside it."""
    for name, field in type(message).model_fields.items():
        if name not in message.model_fields_set:
            continue
        below = f"{path}.{field.alias or name}"
        yield from (f"{below}: {mark.advice}" for mark in field.metadata if isinstance(mark, Deprecated))
        yield from _inside(getattr(message, name), below)


def _inside(value: object, path: str) -> Iterator[str]:
    match value:
        case Message():
            yield from deprecations(value, path)
        case tuple():
            for index, item in enumerate(value):
                yield from _inside(item, f"{path}[{index}]")
        case Mapping():
            for key, item in value.items():
                yield from _inside(item, f"{path}.{key}")
