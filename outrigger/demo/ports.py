"""TCP ports for programs that must be told theirs, kept from everybody else until then."""

from __future__ import annotations

import atexit
import socket


def reserve_port() -> socket.socket:
    """A socket that keeps a port of 127.0.0.1 until it is closed, or this process ends.

    It is bound and does not listen: the kernel gives the port to nobody who asks for any, nor to a connection
    as its own end, while a program that asks for it by number gets it, as servers set SO_REUSEADDR.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    atexit.register(keeper.close)  # which also keeps it from being forgotten
    return keeper


def port_of(keeper: socket.socket) -> int:
    return int(keeper.getsockname()[1])
