"""The address to which a connection was opened before netfilter's REDIRECT sent it here."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final

from sidecar.config.endpoint import SocketAddress

# linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h; `socket` does not name them.
_SO_ORIGINAL_DST: Final = 80
_IP6T_SO_ORIGINAL_DST: Final = 80
_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")  # family, port, address
_SOCKADDR_IN6: Final = struct.Struct("=H2s4x16s4x")  # family, port, flow, address, scope
_IPV4_MAPPED: Final = "::ffff:"  # RFC 4291 section 2.5.5.2


def plain_address(host: str, port: int) -> SocketAddress:
    """A socket's address, without the form in which an IPv6 socket has an IPv4 address."""
    return SocketAddress(host.removeprefix(_IPV4_MAPPED) if "." in host else host, port)


FindDestination = Callable[[socket.socket, SocketAddress], SocketAddress | None]
"""As `original_destination`."""


def original_destination(sock: socket.socket, local: SocketAddress) -> SocketAddress | None:
    """``local`` is the connection's `plain_address`. None for a connection that was not redirected: its
    destination is ``local``, or the host does not track connections."""
    try:
        if ":" in local.host:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, _IP6T_SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
        else:  # also on a socket of IPv6: the rules of IPv4 have redirected the connection
            raw = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
        destination = parse_sockaddr(raw)
    except (OSError, struct.error):  # ENOENT, ENOPROTOOPT: the connection is not tracked
        return None
    return None if destination == local else destination


def parse_sockaddr(raw: bytes) -> SocketAddress:
    """A ``struct sockaddr_in`` or ``sockaddr_in6``. Raises ``struct.error`` for another size."""
    if len(raw) == _SOCKADDR_IN6.size:
        _, port, address = _SOCKADDR_IN6.unpack(raw)
        return SocketAddress(socket.inet_ntop(socket.AF_INET6, address), int.from_bytes(port, "big"))
    _, port, address = _SOCKADDR_IN.unpack(raw)
    return SocketAddress(socket.inet_ntop(socket.AF_INET, address), int.from_bytes(port, "big"))
