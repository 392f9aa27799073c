"""The end of a connection whose peer has not read all data that was written to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

# For the data that a tunnel still has to send when both directions have ended: Envoy's default
# stream_idle_timeout.
TUNNEL_FLUSH_TIMEOUT_S: Final = 300.0
_LINGER_0: Final = struct.pack("ii", 1, 0)
_CHECKS_IN_A_TIMEOUT: Final = 8


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection at once with a TCP reset, and under TLS without a close_notify, so that the peer sees
    that data is missing. ``abort`` alone sends a FIN, which a reader takes for the end of the data."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError, ValueError):  # closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
    transport.abort()


class Progress:
    """Whether bytes still move, judged by a count that only grows. Pure: the time in s is passed in.
    ``idle_timeout_s`` 0 is no limit."""

    __slots__ = ("_count", "_idle_timeout_s", "_moved_at_s")

    def __init__(self, idle_timeout_s: float, count: int, now_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._count = count
        self._moved_at_s = now_s

    def stalled(self, count: int, now_s: float) -> bool:
        """Whether the count has not changed for the timeout."""
        if count != self._count:
            self._count = count
            self._moved_at_s = now_s
        return 0 < self._idle_timeout_s <= now_s - self._moved_at_s

    @property
    def check_after_s(self) -> float:
        """The delay until the next check. A movement counts from the check that sees it."""
        return self._idle_timeout_s / _CHECKS_IN_A_TIMEOUT


def close_when_flushed(
    transport: asyncio.Transport,
    idle_timeout_s: float,
    *,
    now_s: Callable[[], float] | None = None,
    after: Callable[[float, Callable[[], None]], object] | None = None,
) -> None:
    """Closes the transport after it has sent the written data. The transport alone would wait for ever: a
    peer that reads nothing for ``idle_timeout_s`` is reset. ``now_s`` and ``after`` are by default those of
    the running loop."""
    loop = asyncio.get_running_loop()
    now_s, after = now_s or loop.time, after or loop.call_later
    transport.close()
    if not transport.get_write_buffer_size() or not idle_timeout_s:
        return
    progress = Progress(idle_timeout_s, -transport.get_write_buffer_size(), now_s())

    def check() -> None:
        unsent_bytes = transport.get_write_buffer_size()
        if unsent_bytes and progress.stalled(-unsent_bytes, now_s()):
            reset(transport)
        elif unsent_bytes:
            after(progress.check_after_s, check)

    after(progress.check_after_s, check)
