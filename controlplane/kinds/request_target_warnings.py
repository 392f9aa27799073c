"""Warnings about the request targets of a VirtualService that no request has, and that therefore match
nothing as written. Istio accepts all of them, and Envoy compares bytes."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.resources.base import StringMatch
from controlplane.resources.http_route import HTTPMatchRequest
from controlplane.resources.request_target import as_sent, never_sent
from controlplane.resources.virtual_service import VirtualService


def request_target_warnings(spec: VirtualService) -> Iterator[str]:
    """Yields the warnings in the order of the fields, each with its path."""
    for index, rule in enumerate(spec.http):
        path = f"spec.http[{index}]"
        for number, match in enumerate(rule.match):
            yield from _match(match, f"{path}.match[{number}]")
        for field, action in (("redirect", rule.redirect), ("rewrite", rule.rewrite)):
            if action is not None and action.authority and never_sent(action.authority):
                yield f"{path}.{field}.authority: {_not_a_host(action.authority)}"


def _match(match: HTTPMatchRequest, path: str) -> Iterator[str]:
    if match.uri is not None:
        yield from _encoded(match.uri, f"{path}.uri")
        yield from _not_a_path(match.uri, f"{path}.uri")
    if match.authority is not None:
        kind, value = _text(match.authority)
        if never_sent(value):
            yield f"{path}.authority.{kind}: matches nothing: {_not_a_host(value)}"
    for name, parameter in match.query_params.items():
        where = f"{path}.queryParams[{name}]"
        if never_sent(name):
            yield f"{where}: requests carry {as_sent(name)!r}, which is matched instead"
        yield from _encoded(parameter, where)


def _encoded(match: StringMatch, path: str) -> Iterator[str]:
    kind, value = _text(match)
    characters = never_sent(value)
    if not characters:
        return
    if kind == "regex":  # encoding a class or a repeated character would change the meaning
        sent = ", ".join(f"{character!r} as {as_sent(character)!r}" for character in characters[:5])
        yield f"{path}.regex: is matched against encoded requests, which carry {sent}"
    else:
        yield f"{path}.{kind}: requests carry {as_sent(value)!r}, which is matched instead"


def _not_a_path(match: StringMatch, path: str) -> Iterator[str]:
    kind, value = _text(match)
    if kind == "regex" or value in ("", "*"):  # "" matches every path, "*" the target of OPTIONS
        return
    if not value.startswith("/"):
        yield f"{path}.{kind}: matches nothing: a path begins with `/`"
    elif "?" in value or "#" in value:
        yield f"{path}.{kind}: matches nothing: a path does not include the query; use `queryParams`"


def _not_a_host(authority: str) -> str:
    return f"no request carries the host {authority!r}: names are sent in ASCII (`xn--…`)"


def _text(match: StringMatch) -> tuple[str, str]:
    """Returns the name of the field that is set, and its value; a match for presence has an empty value."""
    for kind, value in (("exact", match.exact), ("prefix", match.prefix), ("regex", match.regex)):
        if value is not None:
            return kind, value
    return "exact", ""
