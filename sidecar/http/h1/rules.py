"""Checks of a request that a proxy needs: requests can be smuggled when two parsers interpret one message
differently (RFC 9112 11.2). The checks are pure; each raises the error that the client gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sidecar.authority import is_authority, split_port
from sidecar.errors import (
    DownstreamProtocolError,
    ExpectationFailedError,
    HeadersTooLargeError,
    RequestError,
    UnsupportedTransferCodingError,
)

# A client that had these removed could hide the origin or the destination of a request.
_NOT_FOR_ONE_HOP = frozenset((b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))
# RFC 9110 7.6.1: the framing is not an option, and `te` has separate rules.
_NO_OPTIONS = frozenset((b"content-length", b"te"))
_USUAL_OPTIONS = frozenset((b"close", b"keep-alive"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderRules:
    """The limits of one direction, and the errors for invalid messages. The limits apply to the fields of a
    head, and to those of trailers."""

    max_headers_bytes: int
    max_headers_count: int
    malformed: type[RequestError]
    too_large: type[RequestError]


@lru_cache(64)
def request_rules(max_headers_bytes: int, max_headers_count: int) -> ReaderRules:
    """Those of a listener; all its connections share them."""
    return ReaderRules(
        max_headers_bytes=max_headers_bytes,
        max_headers_count=max_headers_count,
        malformed=DownstreamProtocolError,
        too_large=HeadersTooLargeError,
    )


def check_transfer_encoding(values: list[bytes], *, http11: bool) -> None:
    """RFC 9112 6.1: only `chunked` is supported, once, and only in HTTP/1.1. RFC 9112 6.3: a body has no
    reliable end where `chunked` is not the last coding."""
    if not http11:
        raise DownstreamProtocolError("Transfer-Encoding in HTTP/1.0")
    if len(values) > 1:
        raise DownstreamProtocolError("more than one Transfer-Encoding")
    codings = [coding.strip() for coding in values[0].lower().split(b",")]
    if b"chunked" in codings[:-1]:
        raise DownstreamProtocolError(f"Transfer-Encoding {printable(values[0])}: chunked is not the last")
    if codings != [b"chunked"]:
        raise UnsupportedTransferCodingError(
            f"Transfer-Encoding {printable(values[0])} is not supported, only chunked is"
        )


def named_by_connection(values: list[bytes]) -> set[bytes]:
    """RFC 9110 7.6.1: the fields that Connection names are for this hop only."""
    if len(values) == 1 and values[0] in _USUAL_OPTIONS:
        return {values[0]}
    named = {token.strip().lower() for value in values for token in value.split(b",")} - _NO_OPTIONS
    for name in named & _NOT_FOR_ONE_HOP:
        raise DownstreamProtocolError(f"Connection must not name {name.decode()}")
    return named


def check_expect(value: bytes) -> None:
    """RFC 9110 10.1.1: an unknown expectation is refused with 417."""
    if value.lower() != b"100-continue":
        raise ExpectationFailedError(f"Expect {printable(value)} is not supported, only 100-continue is")


def resolve_target(
    method: bytes, target: bytes, host: bytes | None, *, allow_absolute: bool
) -> tuple[bytes, bytes]:
    """Authority and path of a request target in any of its four forms (RFC 9112 3.2). `host` is the value of
    Host.

    RFC 9112 3.2.2: the authority of an absolute-form target has precedence over Host. RFC 9112 3.2: Host
    must not be missing; in HTTP/1.0 too, because the mesh routes by it.
    """
    if host is None:
        raise DownstreamProtocolError("missing Host")
    authority = host
    if not is_authority(authority):
        raise DownstreamProtocolError(f"Host {printable(authority)} is not a host and port")
    if method == b"CONNECT":
        return _connect_target(target), b""
    if target.startswith(b"/"):
        path = target
    elif target == b"*":
        if method != b"OPTIONS":  # RFC 9112 3.2.4
            raise DownstreamProtocolError(f"target * with method {printable(method)}")
        path = target
    else:
        if not allow_absolute:
            raise DownstreamProtocolError("absolute-form targets are not allowed here")
        authority, path = _split_absolute(target)
    return authority, path


def _connect_target(target: bytes) -> bytes:
    # RFC 9110 9.3.6: host and port, both.
    if not is_authority(target) or not split_port(target)[1]:
        raise DownstreamProtocolError(f"CONNECT target {printable(target)} is not a host and port")
    return target


def _split_absolute(target: bytes) -> tuple[bytes, bytes]:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise DownstreamProtocolError(f"target {printable(target)} is neither a path nor an http URL")
    end = min([at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0], default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not is_authority(authority):
        raise DownstreamProtocolError(f"the target's authority {printable(authority)} is not a host and port")
    return authority, path if path.startswith(b"/") else b"/" + path


def printable(value: bytes, limit: int = 80) -> str:
    """Formats untrusted bytes for a log message: shortened, and in printable ASCII."""
    return ascii(value[:limit].decode("latin-1"))
