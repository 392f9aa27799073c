"""Serializes messages: heads, chunks and their framing. No I/O.

The framing of a message is decided here, and framing headers that a filter left are ignored: a wrong length
would allow response splitting and request smuggling.
"""

from __future__ import annotations

from typing import Final

from sidecar.http.h1.head import join_request, join_response
from sidecar.http.h1.head_python import JOIN_FIELD, OF_CODEC, REQUEST_LINE, TE_TRAILERS
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.http.reason import reason

_NO_BODY_EXPECTED: Final = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))
# RFC 9110 6.5.1: fields for framing or routing are not allowed in trailers.
_NO_TRAILERS: Final = OF_CODEC | {b"trailer"}

CHUNKED: Final = b"transfer-encoding: chunked"
CLOSE: Final = b"connection: close"


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %s" % (status, reason(status).encode())


_STATUS_LINES: Final = {status: _status_line(status) for status in range(100, 600)}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or _status_line(status)


def has_no_body(status: int) -> bool:
    """RFC 9110 6.4.1: such a response ends with its head (as does every response to HEAD)."""
    return status == 204 or status == 304 or status < 200  # noqa: PLR1714 - quicker than a set, for each response


def response_head(status: int, headers: Headers, options: tuple[bytes, ...] = ()) -> bytes:
    """`options` are further lines of the head; an empty one is left out."""
    lines = [option for option in options if option]
    return b"\r\n".join([status_line(status), *map(JOIN_FIELD, headers), *lines, b"", b""])


def whole_response(status: int, headers: Headers, body: bytes, option: bytes = b"") -> bytes:
    """Returns head and body in one, with the length of `body`."""
    whole: bytes = join_response(status_line(status), headers, body, option)
    return whole


def request_head(request: Request, length: int | None, *extra: bytes) -> bytes:
    """`length` becomes Content-Length, if it is not None."""
    target = request.path or request.authority  # RFC 9112 3.2.3: CONNECT has no path
    line = REQUEST_LINE % (request.method, target, request.authority)
    headers = [field for field in request.headers if field[0] not in OF_CODEC or field == TE_TRAILERS]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return b"\r\n".join([line, *map(JOIN_FIELD, headers), *extra, b"", b""])


def tunnel_head(request: Request, *extra: bytes) -> bytes:
    """The head of a request that opens a tunnel and has no body."""
    length = 0 if (b"content-length", b"0") in request.headers else None
    return request_head(request, length, *extra)


def whole_request(request: Request, body: bytes) -> bytes:
    """Head and body in one. RFC 9110 8.6: no length for an empty body of a method that expects none."""
    whole: bytes = join_request(
        request.method,
        request.path,
        request.authority,
        request.headers,
        body,
        request.method not in _NO_BODY_EXPECTED,
    )
    return whole


def without_length(headers: Headers) -> Headers:
    return [field for field in headers if field[0] != b"content-length"]


def content_length(headers: Headers) -> int | None:
    """RFC 9112 6.3: None if the length is missing, invalid or contradictory."""
    lengths = {value for name, value in headers if name == b"content-length"}
    if len(lengths) != 1:
        return None
    (length,) = lengths
    return int(length) if length.isdigit() else None


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """RFC 9112 7.1.2: the end of a chunked body, with the fields that follow it."""
    if not trailers:
        return b"0\r\n\r\n"
    trailers = [field for field in trailers if field[0] not in _NO_TRAILERS]
    return b"\r\n".join((b"0", *map(JOIN_FIELD, trailers), b"", b""))
