"""Reserves TCP ports for programs that need a fixed port number."""

from __future__ import annotations

import atexit
import socket


def reserve_port() -> socket.socket:
    """Returns a socket that reserves a port of 127.0.0.1 until it is closed or this process ends.

    The socket is bound but does not listen: the kernel does not assign the port as a free or ephemeral port,
    but a server that sets SO_REUSEADDR can still bind it.
    """
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    atexit.register(keeper.close)  # also keeps a reference to the socket
    return keeper


def port_of(keeper: socket.socket) -> int:
    return int(keeper.getsockname()[1])
