"""The fields that supported.md lists as supported are read by the code that builds configuration."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pytest

import controlplane
from controlplane.kinds.registry import KINDS
from controlplane.resources.base import Message

# supported.md says of it that it has no effect, as a retry goes to any locality already.
WITHOUT_EFFECT = {"retry_remote_localities"}


def messages_in(annotation: Any) -> Iterator[type[Message]]:
    """The message of a field, and those in it; a field may be optional, a list or a map of messages."""
    if isinstance(annotation, type) and issubclass(annotation, Message):
        yield annotation
        for field in annotation.model_fields.values():
            yield from messages_in(field.annotation)
    for argument in get_args(annotation):
        yield from messages_in(argument)


@pytest.fixture(scope="module")
def read() -> frozenset[str]:
    return frozenset(
        node.attr
        for path in Path(controlplane.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_supported_field_is_read(kind: str, read: frozenset[str]) -> None:
    """Fields that are refused have no type but None, those that are not read have any."""
    unread = {
        (message.__name__, name)
        for message in set(messages_in(KINDS[kind].spec))
        for name, field in message.model_fields.items()
        if field.annotation not in (NoneType, Any) and name not in read | WITHOUT_EFFECT
    }
    assert unread == set()
