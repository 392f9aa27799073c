"""Checks on the messages that filters have changed: once where a request enters the router, and once where a
response leaves to the codec. Codecs rely on lower-case names, and write values as they are.
"""

from __future__ import annotations

import re

from sidecar.errors import InternalError
from sidecar.http.h1.rules import printable
from sidecar.http.headers import Headers
from sidecar.http.message import Request

_ENDS_A_LINE = re.compile(rb"[\r\n\0]").search
_ENDS_A_TARGET = re.compile(rb"[\r\n\0 ]").search


def check_headers(headers: Headers) -> None:
    """Makes names lower-case. Raises `InternalError` for a line end or a NUL: it could begin another
    header, or another message."""
    for index, (name, value) in enumerate(headers):
        if _ENDS_A_LINE(name) or _ENDS_A_LINE(value):
            raise InternalError(f"a filter left a line end or a NUL in the header {printable(name)}")
        if not name.islower():
            headers[index] = (name.lower(), value)


def check_request(request: Request) -> None:
    """`check_headers`, and the same for the parts of the request line."""
    for part in (request.method, request.path, request.authority):
        if _ENDS_A_TARGET(part):
            raise InternalError(f"a filter left a space, a line end or a NUL in {printable(part)}")
    check_headers(request.headers)
