"""What a route may ask of a request beside its path: its headers, and its query parameters.

Source: ``envoy.config.route.v3.HeaderMatcher`` and ``QueryParameterMatcher``.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.route import HeaderMatch, QueryParameterMatch, StringMatchKind
from sidecar.http.message import Headers, Request
from sidecar.router.string_match import BytesPredicate, compile_string_match

RequestPredicate = Callable[[Request], bool]
HeadersPredicate = Callable[[Headers], bool]

# `host` is a name of the authority too, as in Envoy's header map.
_PSEUDO_HEADERS: dict[str, Callable[[Request], bytes | None]] = {
    ":method": lambda request: request.method,
    ":path": lambda request: request.path,
    ":scheme": lambda request: request.scheme,
    ":authority": lambda request: request.authority,
    "host": lambda request: request.authority,
}


def joined_values(headers: Headers, name: bytes) -> bytes | None:
    """The values of a header, joined by commas where it came more than once; None where it did not come."""
    joined: bytes | None = None
    for header, value in headers:
        if header == name:
            joined = value if joined is None else joined + b"," + value
    return joined


def compile_header_match(match: HeaderMatch) -> RequestPredicate:
    accepts = _accepts(match)
    pseudo_header = _PSEUDO_HEADERS.get(match.name)
    if pseudo_header is not None:
        return lambda request: accepts(pseudo_header(request))
    name = match.name.encode()
    return lambda request: accepts(joined_values(request.headers, name))


def compile_response_header_match(match: HeaderMatch) -> HeadersPredicate:
    """For ``retriable_headers``, which look at a response."""
    accepts = _accepts(match)
    name = match.name.encode()
    return lambda headers: accepts(joined_values(headers, name))


def _accepts(match: HeaderMatch) -> Callable[[bytes | None], bool]:
    """A missing header never matches, not even inverted; unless it is treated as empty, or its absence is
    what is asked for."""
    invert, missing_is_empty = match.invert, match.treat_missing_as_empty
    if match.match.kind is StringMatchKind.PRESENT:
        return lambda value: (value is not None or missing_is_empty) != invert
    matches = compile_string_match(match.match)

    def accepts(value: bytes | None) -> bool:
        if value is None:
            if not missing_is_empty:
                return False
            value = b""
        return matches(value) != invert

    return accepts


def compile_query_matches(matches: tuple[QueryParameterMatch, ...]) -> RequestPredicate | None:
    """All must hold. Values are compared as they were sent, percent-encoded; of a repeated parameter the
    first counts. None where nothing is asked."""
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
