"""The state of a TCP connection over IPv4, as the kernel shows it for both of its ends in /proc/net/tcp."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

_CLOSE_WAIT = "08"
_PROBING = "04"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpEnd:
    """One end of a connection; a FIN counts as one byte. The kernel's documentation, proc_net_tcp, explains
    the fields."""

    unacknowledged_bytes: int
    """The process has written them, and the kernel of the other end has not taken them yet."""
    unread_bytes: int
    """They have arrived, and the process has not read them yet."""
    has_received_end: bool
    """The FIN of the other end has arrived."""
    probes_closed_window: bool
    """The other end has no room for the unacknowledged bytes, until its process reads."""


CLOSED = TcpEnd(unacknowledged_bytes=0, unread_bytes=0, has_received_end=True, probes_closed_window=False)


def own_end(connection: socket.socket) -> TcpEnd:
    return _ends(connection)[0]


def other_end(connection: socket.socket) -> TcpEnd:
    return _ends(connection)[1]


def is_read(connection: socket.socket) -> bool:
    """Whether the process at the other end has read all bytes that were written to the socket."""
    return not own_end(connection).unacknowledged_bytes and not other_end(connection).unread_bytes


def is_read_by_peer(writer: asyncio.StreamWriter) -> bool:
    return writer.transport.get_write_buffer_size() == 0 and is_read(writer.get_extra_info("socket"))


async def is_left_unread(connection: socket.socket) -> bool:
    """Whether the other end, a socket of this event loop, has bytes to read and does not read them.

    A transport that is not paused reads in every turn of the loop.
    """
    unread_bytes = other_end(connection).unread_bytes
    for _ in range(5):
        await asyncio.sleep(0)
    return 0 < unread_bytes == other_end(connection).unread_bytes


def _ends(connection: socket.socket) -> tuple[TcpEnd, TcpEnd]:
    """Both ends, each `CLOSED` if the kernel no longer has it."""
    try:
        own, other = connection.getsockname(), connection.getpeername()
    except OSError:  # both directions have ended
        return CLOSED, CLOSED
    return _find(own, other), _find(other, own)


def _find(local: tuple[str, int], remote: tuple[str, int]) -> TcpEnd:
    wanted = [_hexadecimal(local), _hexadecimal(remote)]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        _, *addresses, state, queues, timer = line.split()[:6]
        if addresses == wanted:
            unacknowledged, _, unread = queues.partition(":")
            return TcpEnd(
                unacknowledged_bytes=int(unacknowledged, 16),
                unread_bytes=int(unread, 16),
                has_received_end=state == _CLOSE_WAIT,
                probes_closed_window=timer.startswith(_PROBING),
            )
    return CLOSED


def _hexadecimal(address: tuple[str, int]) -> str:
    host, port = address
    return f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"
