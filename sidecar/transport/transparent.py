"""Sockets with addresses of other machines: ip(7), IP_TRANSPARENT. They need the capability NET_ADMIN."""

from __future__ import annotations

import socket
from typing import Final

# linux/in.h and linux/in6.h; `socket` does not name them.
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_IP_BIND_ADDRESS_NO_PORT: Final = 24


def make_transparent(sock: socket.socket) -> None:
    """A listening socket accepts connections to any address, which TPROXY delivers; another one may be bound
    to any address. Raises ``OSError``."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


def bind_source(sock: socket.socket, host: str, port: int) -> None:
    """Binds a client's socket. A port of 0 is chosen when the socket connects, so that connections to
    different hosts can have the same port. Raises ``OSError``."""
    if port == 0:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((host, port))
