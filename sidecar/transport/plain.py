"""The transports that read and write a socket as it is, without TLS."""

from __future__ import annotations

import asyncio

from uvloop.loop import TCPTransport, UnixTransport  # type: ignore[attr-defined]  # not in its stubs


def is_plain(transport: asyncio.Transport) -> bool:
    """Whether uvloop's transport reads and writes the socket for the protocol itself."""
    return isinstance(transport, (TCPTransport, UnixTransport))
