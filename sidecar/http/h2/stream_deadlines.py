"""The timeouts of a connection's streams, and of the connection itself while it has none. One deadline serves
them all: it is the earliest time at which one of them can be due."""

from __future__ import annotations

import math
from collections.abc import Callable

from sidecar.config.listener import HttpConnectionManager
from sidecar.http.deadline import Deadline
from sidecar.http.h2.server_exchange import Http2ServerExchange
from sidecar.timers import Timers


class Http2StreamDeadlines:
    """Calls `on_idle` when the connection had no stream for ``idle_timeout``, and `expire` of exchanges.
    `now_s` is the current time of the clock."""

    __slots__ = ("_deadline", "_due_s", "_exchanges", "_idle_since_s", "_idle_timeout_s", "_on_idle", "now_s")

    def __init__(
        self,
        config: HttpConnectionManager,
        timers: Timers,
        clock: Callable[[], float],
        exchanges: set[Http2ServerExchange],
        on_idle: Callable[[], None],
    ) -> None:
        self.now_s = clock
        self._deadline = Deadline(timers, clock, self._expire)
        self._exchanges = exchanges
        self._on_idle = on_idle
        self._idle_timeout_s = config.idle_timeout_s or math.inf
        self._idle_since_s = 0.0
        self._due_s = math.inf  # no timeout is due before

    def watch(self, expires_s: float) -> None:
        """A timeout is due at this time."""
        if expires_s < self._due_s:
            self._due_s = expires_s
            self._deadline.move_to(expires_s)

    def idle_since(self, now_s: float) -> None:
        """The connection has no stream any more."""
        self._idle_since_s = now_s
        self.watch(now_s + self._idle_timeout_s)

    def end(self) -> None:
        """Forgets the callbacks, whose owner has this object: that is a cycle."""
        self._deadline.end()
        self._on_idle = _nothing

    def _expire(self) -> None:
        """Ends what has exceeded its timeout, and finds the next time to look."""
        now_s = self.now_s()
        self._due_s = math.inf
        for exchange in list(self._exchanges):
            if exchange.expires_s <= now_s or exchange.request_expires_s <= now_s:
                exchange.expire(now_s)
        due_s = math.inf
        for exchange in self._exchanges:
            due_s = min(due_s, exchange.expires_s, exchange.request_expires_s)
        if not self._exchanges:
            due_s = self._idle_since_s + self._idle_timeout_s
            if due_s <= now_s:
                self._on_idle()
                return
        self.watch(due_s)


def _nothing() -> None:
    """The callback of a connection that is lost."""
