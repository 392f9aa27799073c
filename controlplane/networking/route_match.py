"""The conditions of a VirtualService as Envoy's route matches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.route.v3.route_components_pb2 import HeaderMatcher, QueryParameterMatcher, RouteMatch

from controlplane.resources.base import StringMatch
from controlplane.resources.http_route import HTTPMatchRequest
from controlplane.resources.request_target import as_sent

EVERYTHING: Final = RouteMatch(prefix="/")


def route_match(match: HTTPMatchRequest) -> RouteMatch:
    """All conditions of ``match``, except its port, which selects the route configuration."""
    built = _path_match(match)
    built.headers.extend(_header_matchers(match))
    built.query_parameters.extend(
        QueryParameterMatcher(name=as_sent(name), **_value_match(_parameter_as_sent(value)))
        for name, value in sorted(match.query_params.items())
    )
    return built


def _path_match(match: HTTPMatchRequest) -> RouteMatch:
    uri = match.uri
    case_sensitive = {"value": not match.ignore_uri_case}
    if uri is None:
        return RouteMatch(prefix="/")
    if uri.exact is not None:
        return RouteMatch(path=as_sent(uri.exact), case_sensitive=case_sensitive)
    if uri.prefix is not None:
        return RouteMatch(prefix=as_sent(uri.prefix), case_sensitive=case_sensitive)
    return RouteMatch(safe_regex={"regex": uri.regex})  # a regex states by itself whether it ignores case


def _parameter_as_sent(value: StringMatch) -> StringMatch:
    """Parameters are compared in encoded form, like paths; a regex is unchanged."""
    if value.exact is not None:
        return StringMatch(exact=as_sent(value.exact))
    return value if value.prefix is None else StringMatch(prefix=as_sent(value.prefix))


def _header_matchers(match: HTTPMatchRequest) -> Iterable[HeaderMatcher]:
    for name, pseudo in ((":method", match.method), (":authority", match.authority)):
        if pseudo is not None:
            yield HeaderMatcher(name=name, **_value_match(pseudo))
    for name, value in sorted(match.headers.items()):
        yield HeaderMatcher(name=name, **_value_match(value))
    for name, value in sorted(match.without_headers.items()):
        yield _without_header(name, value)


def _without_header(name: str, value: StringMatch) -> HeaderMatcher:
    matcher = HeaderMatcher(name=name, invert_match=True, **_value_match(value))
    # Envoy: a missing header never matches, not even inverted, unless it is treated as empty.
    matcher.treat_missing_header_as_empty = not value.is_presence
    return matcher


def _value_match(value: StringMatch) -> dict[str, Any]:
    if value.is_presence:
        return {"present_match": True}
    if value.exact is not None:
        return {"string_match": {"exact": value.exact}}
    if value.prefix is not None:
        # Envoy rejects an empty prefix, which every value has.
        return {"string_match": {"prefix": value.prefix}} if value.prefix else {"present_match": True}
    return {"string_match": {"safe_regex": {"regex": value.regex}}}
