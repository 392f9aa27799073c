"""Checks on the messages that filters have changed: once where a request enters the router, and once where
a response leaves to the codec. Codecs rely on lower-case names, write values as they are, and trust the
length of a body that arrives.
"""

from __future__ import annotations

import re

from sidecar.errors import InternalError
from sidecar.http.h1.rules import printable
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response

_ENDS_A_LINE = re.compile(rb"[\r\n\0]").search
_ENDS_A_TARGET = re.compile(rb"[\r\n\0 ]").search


def check_request(request: Request) -> None:
    """Prepares for the codec what filters have made of a request. Raises `InternalError` for bytes that would
    end a line: they could begin another header, or another message."""
    for part in (request.method, request.path, request.authority):
        if _ENDS_A_TARGET(part):
            raise InternalError(f"a filter left a space, a line end or a NUL in {printable(part)}")
    if request.body_replaced and request.body.whole is None:
        request.headers = _without_length(request.headers)
    _check_headers(request.headers)


def check_response(request: Request, response: Response) -> None:
    """As `check_request`."""
    if response.body.as_long_as is not request.upstream_body and response.body.whole is None:
        response.headers = _without_length(response.headers)
    _check_headers(response.headers)


def _without_length(headers: Headers) -> Headers:
    """For a body that takes the place of another one: its length is not known."""
    return [field for field in headers if field[0].lower() != b"content-length"]


def _check_headers(headers: Headers) -> None:
    for index, (name, value) in enumerate(headers):
        if _ENDS_A_LINE(name) or _ENDS_A_LINE(value):
            raise InternalError(f"a filter left a line end or a NUL in the header {printable(name)}")
        if not name.islower():
            headers[index] = (name.lower(), value)
