"""The tables of supported.md, generated from the code's own tables: ``python -m docs.generate_supported``.

Each stands between ``<!-- NAME: generated -->`` and ``<!-- end -->``; the rest is written by hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo

from controlplane.kinds.registry import KINDS
from controlplane.resources.base import Message
from sidecar.xds.decode.support import Support
from sidecar.xds.decode.supported import SUPPORTED

PAGE = Path(__file__).with_name("supported.md")


def render(page: str) -> str:
    """The page with its tables made anew."""
    for name, lines in (("istio", istio_tables()), ("xds", xds_table())):
        start, end = f"<!-- {name}: generated -->", "<!-- end -->"
        before, rest = page.split(start)
        _, after = rest.split(end, 1)
        page = "\n".join((f"{before}{start}\n", *lines, f"{end}{after}"))
    return page


# Istio's resources: one table a kind, one row a message.


def istio_tables() -> Iterator[str]:
    for kind, described in KINDS.items():
        groups: dict[str, list[str]] = defaultdict(list)
        for version in described.api_versions:
            group, _, number = version.rpartition("/")
            groups[group].append(number)
        versions = "; ".join(f"{group} {', '.join(numbers)}".strip() for group, numbers in groups.items())
        yield f"### {kind} ({versions})\n"
        yield "| where | supported | refused: not supported yet | accepted, and not read |"
        yield "| --- | --- | --- | --- |"
        yield from (_row(path, model) for path, model in _messages(described.spec))
        yield ""


def _messages(root: type[Message]) -> Iterator[tuple[str, type[Message]]]:
    """A message and those inside it, each where it comes first."""
    seen = {root}
    waiting = [("spec", root)]
    while waiting:
        path, model = waiting.pop(0)
        yield path, model
        for name, field in _fields(model):
            for inner in _types(field.annotation):
                if issubclass(inner, Message) and inner not in seen:
                    seen.add(inner)
                    waiting.append((f"{path}.{name}{_brackets(field.annotation)}", inner))


def _row(path: str, model: type[Message]) -> str:
    supported, refused, unread = [], [], []
    for name, field in _fields(model):
        if field.exclude:
            unread.append(f"`{name}`")
        elif field.annotation is type(None):
            refused.append(f"`{name}`")
        else:
            supported.append(f"`{name}`{_values(field.annotation)}")
    return _line(f"`{path}`", *map(", ".join, (supported, refused, unread)))


def _fields(model: type[Message]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _types(annotation: Any) -> Iterator[type]:
    """The classes in an annotation such as ``dict[str, X] | None``."""
    inner = get_args(annotation)
    if isinstance(annotation, type) and not inner:
        yield annotation
    yield from chain.from_iterable(map(_types, inner))


def _values(annotation: Any) -> str:
    for each in _types(annotation):
        if issubclass(each, Enum):
            return f" ({', '.join(member.value for member in each)})"
    return ""


def _brackets(annotation: Any) -> str:
    """``[]`` after a field that holds several."""
    return "[]" if any(each in str(annotation) for each in ("tuple[", "dict[")) else ""


# Envoy's messages: one table.


def xds_table() -> Iterator[str]:
    yield "| message | fields | accepted and without effect |"
    yield "| --- | --- | --- |"
    for name, support in SUPPORTED.items():
        yield _line(f"`{name}`", _names(sorted(support.fields)), _without_effect(support))
    yield ""


def _without_effect(support: Support) -> str:
    by_reason: dict[str, list[str]] = defaultdict(list)
    if support.kept:
        by_reason["decoded, but nothing uses it yet"] = sorted(support.kept)
    if support.checked:
        by_reason["none of the options that it may hold has an effect"] = sorted(support.checked)
    for name, reason in support.without_effect.items():
        by_reason[reason].append(name)
    return "; ".join(f"{_names(names)}: {reason}" for reason, names in by_reason.items())


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
