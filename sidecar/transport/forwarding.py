"""Passes bytes between plain sockets, past the event loop's transports.

A transport costs more CPU for each read and write than it takes to copy a small message. So where both sides
of a proxied connection are plain sockets, a `Forwarder` reads and writes them. The transports still own the
sockets: they write the bytes that a slow peer does not take, find the end of the data, and close.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sidecar.transport.plain import is_plain

try:
    from sidecar.transport._forwarder import Flow, Forwarder
except ImportError:
    from sidecar.transport.forwarder_python import Flow, Forwarder

__all__ = ["Flow", "Forwarder", "forwarder", "plain_socket"]

# Also the most that one direction of a connection holds while its peer is slow.
_BUFFER_BYTES: Final = 256 * 1024


def forwarder(loop: asyncio.AbstractEventLoop) -> Forwarder:
    """A forwarder whose flows the loop runs."""
    made = Forwarder(_BUFFER_BYTES)
    loop.add_reader(made.fileno(), made.run)
    return made


def plain_socket(transport: asyncio.Transport | None) -> int:
    """The descriptor of the socket that the transport reads and writes as it is; -1 if there is none, as for
    TLS."""
    if transport is not None and is_plain(transport) and not transport.is_closing():
        return int(transport.get_extra_info("socket").fileno())
    return -1
