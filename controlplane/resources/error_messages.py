"""Describes the errors of pydantic in the terms of YAML, with the whole path of each field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from controlplane.errors import ResourceError

# A document may have thousands of errors; the first ones are enough.
_MOST_ERRORS = 20

_REASONS = {
    "missing": "is required",
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "string_type": "should be a string",
    "int_type": "should be an integer",
    "bool_type": "should be true or false",
    "string_too_short": "should not be empty",
    "invalid_key": "unknown field: a field's name is a string",
}
# Errors for which the value adds nothing.
_COMPLETE = frozenset({"missing", "string_too_short", "invalid_key"})


def explain(error: ValidationError, model: type[BaseModel], root: str) -> list[ResourceError]:
    """One `ResourceError` for each fault. ``root`` is the path of the document that ``model`` describes."""
    return [
        ResourceError(_path(root, details["loc"]), _reason(details, model))
        for details in error.errors(include_url=False)[:_MOST_ERRORS]
    ]


def nearest(name: str, known: Iterable[str], *, similarity: float = 0.6) -> str | None:
    """The known name that is most similar to ``name``, if one reaches ``similarity`` (1: equal)."""
    by_folded_name = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name[:64].lower(), by_folded_name, n=1, cutoff=similarity)
    return by_folded_name[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean `route`?`` if a known name is similar, or else an empty string."""
    found = nearest(name, known)
    return f"; did you mean `{found}`?" if found else ""


def show(value: object) -> str:
    """A value in the notation of YAML, short enough for a log line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "a huge number"
    if isinstance(value, (str, float)):
        return f"{value!r:.80}"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _path(root: str, location: tuple[int | str, ...]) -> str:
    path = root
    for part in location:
        if part == "[key]":  # pydantic's mark of a fault in the key of a map; the path names the key already
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            path += f".{part}"
        else:
            path += f"[{show(part)}]"
    return path


def _reason(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, value = details["type"], details["input"]
    if kind == "invalid":
        return details["msg"]
    if kind == "extra_forbidden":
        name = str(details["loc"][-1])
        return f"unknown field{suggestion(name, _fields_at(model, details['loc'][:-1]))}"
    if kind == "enum":
        return f"{show(value)} is not one of {details['ctx']['expected']}"
    reason = _REASONS.get(kind) or f"should{details['msg'].partition('should')[2]}"
    return reason if kind in _COMPLETE else f"{reason}, not {show(value)}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The fields, as documents write them, of the message at ``location`` in ``model``."""
    annotation: Any = model
    for part in location:
        annotation = _child(annotation, part)
    if not _is_message(annotation):
        return []
    return [field.alias or name for name, field in annotation.model_fields.items()]


def _child(annotation: Any, part: int | str) -> Any:
    """The type at the end of one step of a path: a message's field, a list's item or a map's value."""
    if _is_message(annotation):
        fields = annotation.model_fields.items()
        found = (field.annotation for name, field in fields if part in (name, field.alias))
        return _without_none(next(found, None))
    arguments = get_args(annotation)
    return _without_none(arguments[1 if get_origin(annotation) is dict else 0]) if arguments else None


def _is_message(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    """The type of an optional field that has a value."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return next(argument for argument in get_args(annotation) if argument is not NoneType)
