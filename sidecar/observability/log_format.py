"""Formats of access logs: a line of text or a JSON object, compiled when the configuration arrives.

Headers are bytes that need not be UTF-8. In JSON, a value is decoded as UTF-8, or as Latin-1 if it is invalid
UTF-8, as in Envoy. In text, where Envoy writes the bytes unchanged, quotation marks, control characters, line
separators and bytes that are invalid UTF-8 become ``\\xNN``, so that a client cannot forge a line or a field
of the log. A length limit counts the bytes of the value before that.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from typing import Final

from sidecar.config.listener import JsonFormat
from sidecar.observability.log_operators import LogEntry, Operator, compile_format

# The bytes that need no escape, neither in text nor in JSON.
_PLAIN: Final = bytes([byte for byte in range(0x20, 0x7F) if byte not in b'"\\'])
# Control characters, line and paragraph separators, and the surrogates of bytes that are invalid UTF-8.
_UNSAFE: Final = frozenset(("Cc", "Zl", "Zp", "Cs"))


class _Line:
    """A line in parts. `special` is the number of bytes of the format's literals that are not plain."""

    __slots__ = ("_escape", "entry", "parts", "special")

    def __init__(self, entry: LogEntry, escape: Callable[[bytes], bytes] | None) -> None:
        self.entry = entry
        self.parts: list[bytes] = []
        self.special = 0
        self._escape = escape

    def add(self, value: bytes) -> None:
        self.parts.append(value if self._escape is None else self._escape(value))


class _Node:
    """A part of a format."""

    __slots__ = ()

    def write(self, line: _Line) -> bool:
        """Returns False for an empty value, which may be omitted."""
        raise NotImplementedError


class LogFormat:
    """`line` formats an entry. The values of nearly all lines are plain. If one is not, the line is written
    again, and each value is escaped."""

    __slots__ = ("_escape", "_root")

    def __init__(self, root: _Node, escape: Callable[[bytes], bytes]) -> None:
        self._root = root
        self._escape = escape

    def line(self, entry: LogEntry) -> bytes:
        line = _Line(entry, None)
        self._root.write(line)
        text = b"".join(line.parts)
        if _count_special(text) == line.special:
            return text
        line = _Line(entry, self._escape)
        self._root.write(line)
        return b"".join(line.parts)


def _count_special(text: bytes) -> int:
    return len(text.translate(None, _PLAIN))


class _Literal(_Node):
    __slots__ = ("_is_present", "_special", "_text")

    def __init__(self, text: bytes, *, is_present: bool = True) -> None:
        self._text = text
        self._special = _count_special(text)
        self._is_present = is_present

    def write(self, line: _Line) -> bool:
        line.parts.append(self._text)
        line.special += self._special
        return self._is_present


class _Value(_Node):
    """`empty` stands for an empty value; it is plain."""

    __slots__ = ("_empty", "_operator")

    def __init__(self, operator: Operator, empty: bytes) -> None:
        self._operator = operator
        self._empty = empty

    def write(self, line: _Line) -> bool:
        value = self._operator.value(line.entry)
        if value is None:
            line.parts.append(self._empty)
            return False
        line.add(value)
        return True


class _Sequence(_Node):
    __slots__ = ("_nodes",)

    def __init__(self, nodes: list[_Node]) -> None:
        self._nodes = nodes

    def write(self, line: _Line) -> bool:
        for node in self._nodes:
            node.write(line)
        return True


# Text.


def text_format(text: str, *, path: str, omit_empty: bool) -> LogFormat:
    """Raises `ConfigError` at `path` for an unknown command operator. `omit_empty` writes nothing for an
    empty value, instead of a dash."""
    empty = b"" if omit_empty else b"-"
    nodes: list[_Node] = []
    for part in compile_format(text, path=path):
        nodes.append(_Literal(part.encode()) if isinstance(part, str) else _Value(part, empty))
    return LogFormat(_Sequence(nodes), _escape_in_text)


def _escape_in_text(value: bytes) -> bytes:
    text = value.decode(errors="surrogateescape")
    if text.isprintable() and '"' not in text:
        return value
    escaped = [
        _hexadecimal(char) if char == '"' or unicodedata.category(char) in _UNSAFE else char for char in text
    ]
    return "".join(escaped).encode()


def _hexadecimal(char: str) -> str:
    return "".join([f"\\x{byte:02x}" for byte in char.encode(errors="surrogateescape")])


# JSON.


def json_format(template: Mapping[str, JsonFormat], *, path: str, omit_empty: bool) -> LogFormat:
    """The strings of `template` are formats. A string of one command operator keeps the operator's type, and
    becomes null if it is empty. `omit_empty` omits null values, and objects without fields. Raises
    `ConfigError` at `path` for an unknown command operator."""
    root = _Object(_fields(template, path, omit_empty), omit_empty, is_root=True)
    return LogFormat(_Sequence([root, _Literal(b"\n")]), _escape_in_json)


def _fields(template: Mapping[str, JsonFormat], path: str, omit_empty: bool) -> list[_Field]:
    return [_Field(key, _json_node(value, path, omit_empty)) for key, value in template.items()]


def _json_node(template: JsonFormat, path: str, omit_empty: bool) -> _Node:
    if isinstance(template, Mapping):
        return _Object(_fields(template, path, omit_empty), omit_empty)
    if isinstance(template, tuple):
        return _Array([_json_node(item, path, omit_empty) for item in template], omit_empty)
    if isinstance(template, str):
        return _json_string(compile_format(template, path=path), b"" if omit_empty else b"-")
    return _Literal(_dump(template), is_present=template is not None)


def _json_string(parts: list[str | Operator], empty: bytes) -> _Node:
    if len(parts) == 1 and not isinstance(parts[0], str):
        alone = parts[0]
        return _Value(alone, b"null") if alone.is_number else _JsonText(alone)
    nodes: list[_Node] = [_Literal(b'"')]
    for part in parts:
        nodes.append(_Literal(_dump(part)[1:-1]) if isinstance(part, str) else _Value(part, empty))
    return _Sequence([*nodes, _Literal(b'"')])


def _dump(value: object) -> bytes:
    # A lone surrogate cannot be encoded: its escape sequence is written, which is valid in JSON.
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")


def _escape_in_json(value: bytes) -> bytes:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return _dump(text)[1:-1]


class _JsonText(_Node):
    """An operator alone in a string: null if its value is empty."""

    __slots__ = ("_operator",)

    def __init__(self, operator: Operator) -> None:
        self._operator = operator

    def write(self, line: _Line) -> bool:
        value = self._operator.value(line.entry)
        if value is None:
            line.parts.append(b"null")
            return False
        line.parts.append(b'"')
        line.add(value)
        line.parts.append(b'"')
        line.special += 2
        return True


class _Field:
    """A member of an object. Its first literal contains the separator before it."""

    __slots__ = ("first", "later", "node", "special")

    def __init__(self, key: str, node: _Node) -> None:
        name = _dump(key) + b":"
        self.first = b"{" + name
        self.later = b"," + name
        self.special = _count_special(name)
        self.node = node


class _Object(_Node):
    """If `omit_empty`, one without fields is empty, except for the root."""

    __slots__ = ("_fields", "_is_root", "_omit_empty")

    def __init__(self, fields: list[_Field], omit_empty: bool, *, is_root: bool = False) -> None:
        self._fields = fields
        self._omit_empty = omit_empty
        self._is_root = is_root

    def write(self, line: _Line) -> bool:
        is_empty = True
        for field in self._fields:
            length, special = len(line.parts), line.special
            line.parts.append(field.first if is_empty else field.later)
            line.special += field.special
            if field.node.write(line) or not self._omit_empty:
                is_empty = False
            else:
                del line.parts[length:]
                line.special = special
        line.parts.append(b"{}" if is_empty else b"}")
        return self._is_root or not (is_empty and self._omit_empty)


class _Array(_Node):
    __slots__ = ("_items", "_omit_empty")

    def __init__(self, items: list[_Node], omit_empty: bool) -> None:
        self._items = items
        self._omit_empty = omit_empty

    def write(self, line: _Line) -> bool:
        is_empty = True
        for item in self._items:
            length, special = len(line.parts), line.special
            line.parts.append(b"[" if is_empty else b",")
            if item.write(line) or not self._omit_empty:
                is_empty = False
            else:
                del line.parts[length:]
                line.special = special
        line.parts.append(b"[]" if is_empty else b"]")
        return True
