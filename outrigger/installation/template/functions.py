"""Helm's functions, as far as the chart uses them. `include`, `and` and `or` are in `renderer`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import yaml

# encoding/json escapes these, too.
_ESCAPED: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
_FORMAT: Final = re.compile(r"%([sdvq%])")


def to_text(value: Any) -> str:
    """A value as an action prints it. Helm prints nothing for a missing one. Raises ValueError for others
    than strings, numbers and booleans."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise ValueError(f"a {type(value).__name__} cannot be printed: use toYaml")


def _to_json(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPED)


class _Dumper(yaml.CSafeDumper):
    """Writes texts of several lines as blocks, so that people can read them."""


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _to_yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, width=2**31 - 1)
    return text.removesuffix("\n").removesuffix("\n...")  # the end mark of a scalar


def _quote(value: Any) -> str:
    return "" if value is None else json.dumps(to_text(value), ensure_ascii=False)


def _indent(spaces: int, text: str) -> str:
    return " " * spaces + text.replace("\n", "\n" + " " * spaces)


def _printf(text: str, *values: Any) -> str:
    remaining = iter(values)

    def replace(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        value = next(remaining)
        return _quote(value) if found[1] == "q" else to_text(value)

    return _FORMAT.sub(replace, text)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType({
    "default": lambda default, value: value or default,
    "eq": lambda value, *others: value in others,
    "int": lambda value: int(value or 0),
    "list": lambda *values: list(values),
    "ne": lambda value, other: value != other,
    "nindent": lambda spaces, text: "\n" + _indent(spaces, text),
    "not": lambda value: not value,
    "printf": _printf,
    "quote": _quote,
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "toJson": _to_json,
    "toYaml": _to_yaml,
})  # fmt: skip
