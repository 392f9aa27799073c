"""The conditions of a route on requests besides the path: headers and query parameters.

Source: ``envoy.config.route.v3.HeaderMatcher`` and ``QueryParameterMatcher``.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.route import HeaderMatch, QueryParameterMatch, StringMatchKind
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.router.string_match import BytesPredicate, compile_string_match

RequestPredicate = Callable[[Request], bool]
HeadersPredicate = Callable[[Headers], bool]

# `host` is another name of the authority, as in Envoy's header map.
_PSEUDO_HEADERS: dict[str, Callable[[Request], bytes]] = {
    ":method": lambda request: request.method,
    ":path": lambda request: request.path,
    ":scheme": lambda request: request.scheme,
    ":authority": lambda request: request.authority,
    "host": lambda request: request.authority,
}


def compile_header_match(match: HeaderMatch) -> RequestPredicate:
    pseudo_header = _PSEUDO_HEADERS.get(match.name)
    if pseudo_header is None:
        accepts = compile_response_header_match(match)
        return lambda request: accepts(request.headers)
    matches, invert = compile_string_match(match.match), match.invert
    return lambda request: matches(pseudo_header(request)) != invert


def compile_response_header_match(match: HeaderMatch) -> HeadersPredicate:
    """A header with several values matches if one of its values does. A missing header never matches, not
    even if the match is inverted, unless it is treated as empty or the match asks for its absence."""
    name, invert = match.name.encode(), match.invert
    matches = compile_string_match(match.match)
    when_missing = match.treat_missing_as_empty and matches(b"") != invert
    if match.match.kind is StringMatchKind.PRESENT:
        when_missing = match.treat_missing_as_empty != invert

    def accepts(headers: Headers) -> bool:
        found = False
        for header, value in headers:
            if header == name:
                if matches(value):
                    return not invert
                found = True
        return invert if found else when_missing

    return accepts


def compile_query_matches(matches: tuple[QueryParameterMatch, ...]) -> RequestPredicate | None:
    """All must match; None if the route has no conditions. Values are compared as they were sent,
    percent-encoded. If a parameter is repeated, its first value counts."""
    if not matches:
        return None
    wanted: tuple[tuple[bytes, BytesPredicate], ...] = tuple(
        (match.name.encode(), compile_string_match(match.match)) for match in matches
    )

    def accepts(request: Request) -> bool:
        parameters = _query_parameters(request.path)
        return all(name in parameters and matches(parameters[name]) for name, matches in wanted)

    return accepts


def _query_parameters(path: bytes) -> dict[bytes, bytes]:
    query = path.partition(b"#")[0].partition(b"?")[2]
    parameters: dict[bytes, bytes] = {}
    for parameter in query.split(b"&"):
        name, _, value = parameter.partition(b"=")
        parameters.setdefault(name, value)
    return parameters
