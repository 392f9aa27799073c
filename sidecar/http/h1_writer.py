"""Messages in, bytes out: heads, chunks and the framing between them. No I/O.

A body's length is said by us alone, whatever a filter left in the headers: one that lies is how responses
are split and requests smuggled.
"""

from __future__ import annotations

from http import HTTPStatus

from sidecar.http.message import Headers, Request

_FIELD = b": ".join
_REQUEST_LINE = b"%b %b HTTP/1.1\r\nhost: %b"
_NO_BODY_EXPECTED = frozenset((b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"))

CHUNKED = b"transfer-encoding: chunked"
CLOSE = b"connection: close"


def _status_line(status: int) -> bytes:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    return b"HTTP/1.1 %d %s" % (status, reason.encode())


_STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or _status_line(status)


def has_no_body(status: int) -> bool:
    """RFC 9110 6.4.1: these end with their head, whatever it says (as does every response to HEAD)."""
    return status == 204 or status == 304 or status < 200  # noqa: PLR1714 - quicker than a set, for each response


def response_head(status: int, headers: Headers, *extra: bytes) -> bytes:
    return b"\r\n".join((status_line(status), *map(_FIELD, headers), *extra, b"", b""))


def whole_response(status: int, headers: Headers, body: bytes, *extra: bytes) -> bytes:
    """Head and body in one, with the length that the body has."""
    headers = with_length(headers, len(body))
    return b"\r\n".join((status_line(status), *map(_FIELD, headers), *extra, b"", body))


def request_head(request: Request, *extra: bytes) -> bytes:
    target = request.path or request.authority  # RFC 9112 3.2.3: CONNECT has no path
    line = _REQUEST_LINE % (request.method, target, request.authority)
    return b"\r\n".join((line, *map(_FIELD, request.headers), *extra, b"", b""))


def whole_request(request: Request, body: bytes) -> bytes:
    """Head and body in one. RFC 9110 8.6: no length for a method that expects no body, and has none."""
    headers = request.headers
    if body or request.method not in _NO_BODY_EXPECTED:
        headers = with_length(headers, len(body))
    elif content_length(headers) is not None:
        headers = with_length(headers, 0)
    line = _REQUEST_LINE % (request.method, request.path, request.authority)
    return b"\r\n".join((line, *map(_FIELD, headers), b"", body))


def with_length(headers: Headers, length: int) -> Headers:
    digits = b"%d" % length
    for name, value in headers:
        if name == b"content-length":
            if value == digits:
                return headers
            return [*without_length(headers), (b"content-length", digits)]
    return [*headers, (b"content-length", digits)]


def without_length(headers: Headers) -> Headers:
    return [field for field in headers if field[0] != b"content-length"]


def content_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return None


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: Headers) -> bytes:
    """RFC 9112 7.1.2: the end of a chunked body, with the fields that follow it."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"\r\n".join((b"0", *map(_FIELD, trailers), b"", b""))
