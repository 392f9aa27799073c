"""Views that record which fields of messages a decoder reads."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from sidecar.xds.decode.view import View


class Reads:
    """``fields`` are the names of the fields that were read, by the full name of their message."""

    def __init__(self) -> None:
        self.fields: dict[str, set[str]] = defaultdict(set)

    def view_class(self) -> type[View]:
        reads = self

        class RecordingView(View):
            __slots__ = ()

            def __init__(self, message: Any, *arguments: Any) -> None:
                super().__init__(reads.record(message), *arguments)

        return RecordingView

    def record(self, message: Any) -> Any:
        return message if isinstance(message, _RecordedMessage) else _RecordedMessage(message, self)


class _RecordedMessage:
    """A message whose fields are recorded as they are read."""

    def __init__(self, message: Any, reads: Reads) -> None:
        self._message = message
        self._reads = reads

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._message, name)
        field = self._message.DESCRIPTOR.fields_by_name.get(name)
        return value if field is None else self._recorded(field, value)

    def _recorded(self, field: FieldDescriptor, value: Any) -> Any:
        self._note(field.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            kind = kind.fields_by_name["value"].message_type
            if _is_ours(kind):
                return {key: self._reads.record(value[key]) for key in value}
        elif _is_ours(kind):
            return (
                [self._reads.record(item) for item in value]
                if field.is_repeated
                else self._reads.record(value)
            )
        return value

    def HasField(self, name: str) -> bool:
        self._note(name)
        return bool(self._message.HasField(name))

    def WhichOneof(self, name: str) -> str | None:
        found: str | None = self._message.WhichOneof(name)
        if found is not None:
            self._note(found)
        return found

    def _note(self, name: str) -> None:
        self._reads.fields[self._message.DESCRIPTOR.full_name].add(name)


def _is_ours(kind: Any) -> bool:
    """Whether it is a message whose fields a decoder declares: not a scalar, and not a well-known type."""
    return kind is not None and kind.file.package != "google.protobuf"
