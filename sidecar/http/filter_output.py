"""Checks on the messages that filters have changed: once where a request enters the router, and once where
a response leaves to the codec. Codecs rely on lower-case names, write values as they are, and trust the
length of a body that arrives.
"""

from __future__ import annotations

from itertools import chain

from sidecar.errors import InternalError
from sidecar.http.h1.rules import printable
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response


def check_request(request: Request) -> None:
    """Prepares a request for the codec after the filters. Raises `InternalError` for bytes that would end a
    line: they could begin another header, or another message."""
    line = request.method + request.path + request.authority
    if b" " in line or _ends_a_line(line):
        raise InternalError(f"a filter left a space, a line end or a NUL in the request: {printable(line)}")
    if request.body_replaced and request.body.whole is None:
        request.headers = _without_length(request.headers)
    _check_headers(request.headers)


def check_response(request: Request, response: Response) -> None:
    """As `check_request`."""
    if response.body.as_long_as is not request.upstream_body and response.body.whole is None:
        response.headers = _without_length(response.headers)
    _check_headers(response.headers)


def _ends_a_line(text: bytes) -> bool:
    return b"\n" in text or b"\r" in text or b"\0" in text  # faster than a regular expression


def _without_length(headers: Headers) -> Headers:
    """Removes Content-Length after a body was replaced: its length is unknown."""
    return [field for field in headers if field[0].lower() != b"content-length"]


def _check_headers(headers: Headers) -> None:
    """Checks all fields with one search, which costs less than one search for each."""
    if _ends_a_line(b"".join(chain.from_iterable(headers))):
        broken = [name for name, value in headers if _ends_a_line(name) or _ends_a_line(value)]
        raise InternalError(f"a filter left a line end or a NUL in the header {printable(broken[0])}")
    names = b"".join([name for name, _ in headers])
    if names != names.lower():
        headers[:] = [(name.lower(), value) for name, value in headers]
