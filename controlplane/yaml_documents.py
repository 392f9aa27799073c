"""Reads the documents of a YAML file with the types of JSON, as a Kubernetes API server receives them.

Values are built from libyaml's events with an explicit stack, so that nesting, aliases and tags cannot make a
file disproportionately expensive. A duplicate key is an error; common YAML readers use the last value
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from controlplane.errors import ControlPlaneError

# The largest number of values of a document after its aliases are expanded: limits a "billion laughs" attack.
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_LONGEST_NUMBER = 100


class YamlError(ControlPlaneError):
    """A file is not valid YAML, or uses an unsupported feature. ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(f"line {line}, column {column}: {reason}")
        self.line = line
        self.column = column
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document. ``value`` consists of mappings, lists, strings, numbers, booleans and None. ``line`` is the
    first line."""

    line: int
    value: Any


def read_documents(text: str) -> Iterator[Document]:
    """Yields the documents of a file, without the empty ones. Raises `YamlError`."""
    try:
        loader = yaml.CSafeLoader(text)
        try:
            while loader.check_event():
                event = loader.get_event()
                if isinstance(event, yaml.DocumentStartEvent):
                    document = _DocumentReader(loader).read()
                    if document.value is not None:
                        yield document
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        text = ", ".join(filter(None, (error.context, error.problem)))
        raise YamlError(line, column, text) from error
    except yaml.reader.ReaderError as error:
        before = text.encode(errors="replace")[: error.position]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        raise YamlError(line, column, error.reason) from error


@dataclass(slots=True, kw_only=True)
class _Collection:
    """A mapping or list whose end has not been read yet. ``key`` is the key of a mapping whose value comes
    next. ``size`` is the number of values in it, including those of aliases."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    key: str | None = None
    size: int = 1


class _DocumentReader:
    """Builds one document from the events after its start."""

    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._resolve: Callable[[type[yaml.Node], str, tuple[bool, bool]], str] = loader.resolve
        self._open: list[_Collection] = []
        self._anchors: dict[str, tuple[Any, int]] = {}  # complete values and their sizes

    def read(self) -> Document:
        line, _ = _position(self._loader.peek_event())
        root: list[Any] = []
        self._open.append(_Collection(value=root, anchor=None))
        while (event := self._loader.get_event()) and not isinstance(event, yaml.DocumentEndEvent):
            self._take(event)
        return Document(line=line, value=root[0])

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                awaits_key = self._awaits_key()
                value = event.value if awaits_key else self._scalar(event)
                self._add(event, value, size=1, anchor=event.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise _fault(event, f"undefined or recursive alias *{event.anchor}")
                value, size = self._anchors[event.anchor]
                self._add(event, value, size=size)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start(event)
            case _:
                ended = self._open.pop()
                self._add(event, ended.value, size=ended.size, anchor=ended.anchor)

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _tag("map") if mapping else _tag("seq")):
            raise _fault(event, f"the tag {event.tag} is not supported")
        if self._awaits_key():
            raise _fault(event, "a key must be a string")
        if len(self._open) > _DEEPEST:
            raise _fault(event, f"nested more than {_DEEPEST} levels deep")
        self._open.append(_Collection(value={} if mapping else [], anchor=event.anchor))

    def _awaits_key(self) -> bool:
        parent = self._open[-1]
        return isinstance(parent.value, dict) and parent.key is None

    def _add(self, event: yaml.Event, value: Any, *, size: int, anchor: str | None = None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        parent = self._open[-1]
        parent.size += size
        if parent.size > _MOST_VALUES:
            raise _fault(event, f"the document has more than {_MOST_VALUES} values")
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            parent.key = _checked_key(event, value, parent.value)
        else:
            parent.value[parent.key] = value
            parent.key = None

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        plain, _ = event.implicit
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolve(yaml.ScalarNode, event.value, (plain, not plain))
        convert = _SCALARS.get(tag)
        if convert is None:
            raise _fault(event, f"the tag {tag} is not supported")
        try:
            return convert(event.value)
        except ValueError as error:
            raise _fault(event, f"{event.value!r:.80} is not a valid {tag.rpartition(':')[2]}") from error


def _checked_key(event: yaml.Event, key: Any, mapping: Mapping[str, Any]) -> str:
    """Keys are always strings, as in JSON, even if YAML gives them another type (``on``, ``8080``)."""
    if not isinstance(key, str):
        raise _fault(event, "a key must be a string")
    if key == "<<":
        raise _fault(event, "merge keys (<<) are not supported")
    if key in mapping:
        raise _fault(event, f"duplicate key {key!r:.80}")
    return key


def _fault(event: yaml.Event, reason: str) -> YamlError:
    return YamlError(*_position(event), reason)


def _position(event: yaml.Event | None) -> tuple[int, int]:
    """Returns line and column, counted from 1."""
    mark = event.start_mark if event else None
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


def _bool(text: str) -> bool:
    if text.lower() in ("true", "yes", "on"):
        return True
    if text.lower() in ("false", "no", "off"):
        return False
    raise ValueError


def _int(text: str) -> int | str:
    """``0o17`` and ``017`` are octal, ``0x1f`` is hexadecimal. A base 60 number of YAML 1.1 (``9080:80``) is
    a string, as in Kubernetes."""
    digits = text.replace("_", "")
    if ":" in digits:
        return text
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError
    unsigned = digits.lstrip("+-")
    if len(unsigned) > 1 and unsigned.isdigit() and unsigned[0] == "0":
        return int(digits, 8)
    return int(digits, 0)


def _float(text: str) -> float | str:
    number = text.replace("_", "").lower()
    if ":" in number:
        return text
    return float(number.replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    _tag("null"): lambda _: None,
    _tag("bool"): _bool,
    _tag("int"): _int,
    _tag("float"): _float,
    _tag("str"): str,
    _tag("timestamp"): str,  # JSON has no dates
    _tag("value"): str,  # a lone `=`
    _tag("merge"): str,  # `<<` as a value
}
