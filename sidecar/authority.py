"""The authority of a request: ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port`` (RFC 3986 3.2). Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# RFC 3986 3.2.2, a name or an IPv4 address: unreserved, sub-delims and percent-encoding.
_REG_NAME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=%"
_IP_LITERAL = b"0123456789abcdefABCDEF:."
_DIGITS = b"0123456789"
_MAX_PORT = 65535
_MAX_LENGTH = 320  # a DNS name of 253 bytes, a port, and some room


def is_authority(value: bytes) -> bool:
    """Whether `value` is ``host [":" port]`` without userinfo (RFC 9110 4.2.4). An empty port is valid."""
    return len(value) <= _MAX_LENGTH and _is_short_authority(value)


@lru_cache(maxsize=1024)  # the same few hosts are requested again and again
def _is_short_authority(value: bytes) -> bool:
    if value.startswith(b"["):
        host, bracket, rest = value[1:].partition(b"]")
        valid_host = bool(bracket and host) and not host.translate(None, _IP_LITERAL)
        colon, port = rest[:1], rest[1:]
        if colon not in (b"", b":"):
            return False
    else:
        host, colon, port = value.partition(b":")
        valid_host = bool(host) and not host.translate(None, _REG_NAME)
    return valid_host and (not port or (not port.translate(None, _DIGITS) and int(port[:6]) <= _MAX_PORT))


def split_port(authority: bytes) -> tuple[bytes, bytes]:
    """Host and port; the host keeps its brackets, and a missing port is empty. A suffix after a colon that is
    not a number belongs to the host, as does an IPv6 address without brackets."""
    host, colon, port = authority.rpartition(b":")
    if not colon or (port and not port.isdigit()) or (b":" in host and not host.endswith(b"]")):
        return authority, b""
    return host, port


def split_authority(authority: bytes) -> tuple[str, int | None]:
    """Host without brackets, and port; None where the port is missing. Raises `ValueError` for an invalid
    authority, or a port that cannot be connected to."""
    host, port = split_port(authority)
    if host.startswith(b"[") and host.endswith(b"]"):
        name = host[1:-1].decode("latin-1")
        if not _is_ipv6(name):
            raise ValueError("invalid IPv6 address")
    elif host and not host.translate(None, _REG_NAME):
        name = host.decode("ascii")
    else:
        raise ValueError("invalid host")
    if not port:
        return name, None
    if not 0 < int(port[:6]) <= _MAX_PORT:
        raise ValueError("invalid port")
    return name, int(port)


def _is_ipv6(name: str) -> bool:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return True
