"""The rules of header lists (RFC 9113 8.1 to 8.3, 8.5; RFC 8441). Pure.

A head that they accept is safe to write as HTTP/1 (RFC 9113 10.3): its names and values were checked while
they were decoded (`field_kinds`), and its pseudo-headers are checked here.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.authority import is_authority
from sidecar.http.h2.error_codes import PROTOCOL_ERROR, Http2StreamError
from sidecar.http.headers import Headers

UNKNOWN_LENGTH: Final = -1
# More digits would not be the size of anything.
_MAX_LENGTH_DIGITS: Final = 18

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")  # RFC 9110 9.1
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*+")  # RFC 3986 3.1
# No fragment; as in Envoy, also bytes that are not ASCII.
_PATH: Final = re.compile(rb"/[\x21\x22\x24-\x7e\x80-\xff]*+")
_PATH_WITH_FRAGMENT: Final = re.compile(rb"/[\x21-\x7e\x80-\xff]*+")
_KNOWN_METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"))
_KNOWN_SCHEMES: Final = frozenset((b"http", b"https"))
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]")

_CONTENT_LENGTH: Final = b"content-length"
_TE_TRAILERS: Final = (b"te", b"trailers")
# The connection manager verifies these in a head; a trailer must not bypass it.
_MANAGED_PREFIXES: Final = (b"x-envoy-", b"x-forwarded-")
_FOR_ONE_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


class MessageHead:
    """A head that keeps the rules. `status` is 0 in requests. `length` is that of Content-Length, or
    UNKNOWN_LENGTH. `headers` has the regular fields without `host` and `expect`."""

    __slots__ = (
        "authority",
        "expect",
        "headers",
        "length",
        "method",
        "path",
        "protocol",
        "scheme",
        "size",
        "status",
    )

    def __init__(self, headers: Headers, size: int) -> None:
        self.headers = headers
        self.size = size
        self.status = 0
        self.length = UNKNOWN_LENGTH
        self.method = b""
        self.scheme = b""
        self.authority = b""
        self.path = b""
        self.protocol = b""
        self.expect = b""


class PathError(Http2StreamError):
    """A request that keeps the rules, except that its path has a fragment: as in Envoy, it gets a response.
    `head` is that of the request."""

    def __init__(self, head: MessageHead) -> None:
        super().__init__(PROTOCOL_ERROR, "a fragment in the path", "rx_messaging_error")
        self.head = head


def read_request(fields: Headers, special: Headers, size: int, *, allow_connect: bool) -> MessageHead:  # noqa: PLR0912 - one branch for each pseudo-header
    """`fields` and `special` are those of `hpack.read_block`. Raises `Http2StreamError`, and `PathError`."""
    head = MessageHead(fields, size)
    host = b""
    crumbs: list[bytes] = []
    seen = 0  # pseudo-headers: each at most once, even if it is empty
    for name, value in special:
        if name[0] == 0x3A:
            if name == b":method":
                bit, head.method = 1, value
            elif name == b":scheme":
                bit, head.scheme = 2, value
            elif name == b":authority":
                bit, head.authority = 4, value
            elif name == b":path":
                bit, head.path = 8, value
            elif name == b":protocol" and allow_connect:
                bit, head.protocol = 16, value
            else:
                raise _malformed(name, "is not for requests")
            if seen & bit:
                raise _malformed(name, "is there twice")
            if seen & _REGULAR:
                raise _malformed(name, "is behind a regular field")
            seen |= bit
            continue
        seen |= _REGULAR
        if name == b"cookie":
            crumbs.append(value)
        elif name == b"host":
            if seen & _HOST:
                raise _malformed(name, "is there twice")
            if not is_authority(value):
                raise _malformed(name, "is invalid")
            seen |= _HOST
            host = value
        elif name == b"expect":
            head.expect = value
        else:
            _read_regular(head, name, value)
    if crumbs:  # RFC 9113 8.2.3
        fields.append((b"cookie", crumbs[0] if len(crumbs) == 1 else b"; ".join(crumbs)))
    if not head.authority:
        head.authority = host  # RFC 9113 8.3.1: it is ignored otherwise, as in Envoy
    _check_target(head, seen)
    return head


# In `seen`.
_REGULAR: Final = 32
_HOST: Final = 64
_OF_CONNECT: Final = 2 | 8 | 16  # what a plain CONNECT does not have


def _check_target(head: MessageHead, seen: int) -> None:
    if head.method not in _KNOWN_METHODS and not _METHOD.fullmatch(head.method):
        raise _malformed(b":method", "is invalid or missing")
    if head.method == b"CONNECT":
        head.length = UNKNOWN_LENGTH  # RFC 9110 9.3.6: it has no meaning here
        if not seen & 16:  # RFC 9113 8.5
            if seen & _OF_CONNECT:
                raise _malformed(b":method", "is CONNECT, with :scheme or :path")
            if not is_authority(head.authority):
                raise _malformed(b":authority", "is invalid or missing")
            return
        if not _METHOD.fullmatch(head.protocol):  # RFC 8441 4: a token
            raise _malformed(b":protocol", "is invalid")
    elif seen & 16:
        raise _malformed(b":protocol", "is there without CONNECT")
    if head.scheme not in _KNOWN_SCHEMES and not _SCHEME.fullmatch(head.scheme):
        raise _malformed(b":scheme", "is invalid or missing")
    if not is_authority(head.authority):
        raise _malformed(b":authority", "is invalid or missing")
    if not _PATH.fullmatch(head.path) and (head.path != b"*" or head.method != b"OPTIONS"):
        if _PATH_WITH_FRAGMENT.fullmatch(head.path):
            raise PathError(head)
        raise _malformed(b":path", "is invalid or missing")


def read_response(fields: Headers, special: Headers, size: int) -> MessageHead:
    """As `read_request`."""
    head = MessageHead(fields, size)
    regular = False
    for name, value in special:
        if name[0] == 0x3A:
            if name != b":status" or head.status or regular:
                raise _malformed(name, "is not for responses, or there twice, or behind a regular field")
            if not _STATUS.fullmatch(value):
                raise _malformed(name, "is invalid")
            head.status = int(value)
        else:
            regular = True
            if name == b"host" or name == b"expect" or name == b"cookie":  # noqa: PLR1714 - quicker compiled
                fields.append((name, value))
            else:
                _read_regular(head, name, value)
    if head.status == 0:
        raise _malformed(b":status", "is missing")
    if head.status == 101:  # RFC 9113 8.6
        raise _malformed(b":status", "is 101, which HTTP/2 does not have")
    if (head.status < 200 or head.status == 204) and head.length != UNKNOWN_LENGTH:  # RFC 9110 8.6
        if head.length:
            raise _malformed(_CONTENT_LENGTH, "is not for a response without a body")
        head.headers = [field for field in fields if field[0] != _CONTENT_LENGTH]
    return head


def read_trailers(fields: Headers, special: Headers, received: int, *, of_request: bool) -> Headers:
    """Returns the trailers that may be passed on. `received` is the size of the body, or UNKNOWN_LENGTH if
    the head has a Content-Length: then the trailers must not have one. Raises `Http2StreamError`."""
    for name, value in special:
        if name[0] == 0x3A or name in _FOR_ONE_HOP:
            raise _malformed(name, "is not for trailers")
        if name == _CONTENT_LENGTH:
            if _read_length(value) != received:
                raise _malformed(name, "in trailers is not the length of the body, or there twice")
            received = UNKNOWN_LENGTH
        elif name == b"te":
            _check_te(value)
        elif name == b"host":
            if of_request and not is_authority(value):
                raise _malformed(name, "is invalid")
        elif name == b"cookie":
            fields.append((name, value))
    if of_request and fields:
        return [field for field in fields if not field[0].startswith(_MANAGED_PREFIXES)]
    return fields


def _read_regular(head: MessageHead, name: bytes, value: bytes) -> None:
    """The special fields of both directions."""
    if name == _CONTENT_LENGTH:
        if head.length != UNKNOWN_LENGTH:
            raise _malformed(name, "is there twice")
        head.length = _read_length(value)
        head.headers.append((name, value))
    elif name == b"te":
        _check_te(value)
        if head.status == 0:
            head.headers.append(_TE_TRAILERS)
    elif name in _FOR_ONE_HOP:
        raise _malformed(name, "is not a field of HTTP/2")


def _read_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise _malformed(_CONTENT_LENGTH, "is invalid")
    return int(value)


def _check_te(value: bytes) -> None:
    if value.lower() != b"trailers":  # RFC 9113 8.2.2
        raise _malformed(b"te", "is not trailers")


def _malformed(name: bytes, reason: str) -> Http2StreamError:
    return malformed(f"{name.decode('latin-1')} {reason}")


def malformed(reason: str) -> Http2StreamError:
    """RFC 9113 8.1.1: a malformed message."""
    return Http2StreamError(PROTOCOL_ERROR, reason, "rx_messaging_error")
