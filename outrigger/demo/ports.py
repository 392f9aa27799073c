"""Reserves TCP ports for programs that need a fixed port number."""

from __future__ import annotations

import atexit
import socket


def reserve_port() -> socket.socket:
    """Returns a socket that reserves a port, on all IPv4 addresses, until it is closed or this process ends.

    The socket is bound but does not listen: the kernel does not assign the port as a free or ephemeral port,
    but a server that sets SO_REUSEADDR can still bind it. If only 127.0.0.1 was reserved, a connection from
    another address of the machine could take the port from a server that listens on all of them.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("", 0))
    atexit.register(keeper.close)  # also keeps a reference to the socket
    return keeper


def port_of(keeper: socket.socket) -> int:
    return int(keeper.getsockname()[1])
