"""The timeouts of a connection. One deadline serves nearly all of them, because a connection waits for one
event at a time: a request, the rest of its head, data while the request is served, or the client's EOF. The
time for a whole request to arrive has a separate timer."""

from __future__ import annotations

import math
from collections.abc import Callable

from sidecar.config.listener import HttpConnectionManager
from sidecar.http.deadline import Deadline
from sidecar.timers import Timer, Timers


class ConnectionTimeouts:
    """Calls `on_expiry` when the current wait has exceeded its timeout, and `on_request_expiry` when the
    body of a request has not ended in time."""

    __slots__ = (
        "_awaiting_head",
        "_clock",
        "_config",
        "_deadline",
        "_headers_timeout_s",
        "_idle_timeout_s",
        "_on_request_expiry",
        "_request_timer",
        "_stream_idle_timeout_s",
        "_timers",
    )

    def __init__(
        self,
        config: HttpConnectionManager,
        timers: Timers,
        clock: Callable[[], float],
        on_expiry: Callable[[], None],
        on_request_expiry: Callable[[], None],
    ) -> None:
        self._config = config
        self._clock = clock
        self._deadline = Deadline(timers, clock, on_expiry)
        self._idle_timeout_s = config.idle_timeout_s or math.inf
        self._headers_timeout_s = config.request_headers_timeout_s or math.inf
        self._stream_idle_timeout_s = config.stream_idle_timeout_s or math.inf  # of the current request
        self._awaiting_head = False
        self._timers = timers
        self._on_request_expiry = on_request_expiry
        self._request_timer: Timer | None = None

    @property
    def stream_idle_timeout_s(self) -> float:
        return self._stream_idle_timeout_s

    def await_request(self, now_s: float | None = None) -> None:
        """Begins the idle timeout, which lasts until the first byte of a request."""
        self._deadline.move_to((self._clock() if now_s is None else now_s) + self._idle_timeout_s)

    def await_head(self) -> None:
        """Begins the timeout for a head, at its first byte; later reads do not extend it."""
        if not self._awaiting_head:
            self._awaiting_head = True
            stream_idle_timeout_s = self._config.stream_idle_timeout_s or math.inf
            self._deadline.move_to(self._clock() + min(self._headers_timeout_s, stream_idle_timeout_s))

    def begin_stream(self, now_s: float) -> None:
        self._awaiting_head = False
        self._stream_idle_timeout_s = self._config.stream_idle_timeout_s or math.inf
        self._deadline.move_to(now_s + self._stream_idle_timeout_s)

    def limit_stream(self, idle_timeout_s: float) -> None:
        """Replaces the configured stream idle timeout for the current request; 0 disables it."""
        self._stream_idle_timeout_s = idle_timeout_s or math.inf
        self.stream_moved()

    def stream_moved(self) -> None:
        self._deadline.move_to(self._clock() + self._stream_idle_timeout_s)

    def go_away(self, *, idle: bool) -> None:
        """Limits the idle timeout to Envoy's drain_timeout, counted from now if `idle`."""
        self._idle_timeout_s = min(self._idle_timeout_s, self._config.drain_timeout_s)
        if idle:
            self.await_request()

    @property
    def lingers(self) -> bool:
        return self._config.delayed_close_timeout_s > 0

    @property
    def flush_timeout_s(self) -> float:
        """How long a closing connection waits for a client that does not read the written bytes; 0 is no
        limit."""
        timeout_s = min(self._stream_idle_timeout_s, self._config.idle_timeout_s or math.inf)
        return 0.0 if timeout_s == math.inf else timeout_s

    def now_s(self) -> float:
        return self._clock()

    def wait(self, seconds: float) -> None:
        self._deadline.move_to(self._clock() + seconds)

    def linger(self) -> None:
        """Begins Envoy's delayed_close_timeout, when all written bytes have been sent: an earlier reset could
        destroy an error reply before a client that is still sending has read it. If it is 0, the transport
        is already closing, and only the idle timeout limits that."""
        self._deadline.move_to(self._clock() + (self._config.delayed_close_timeout_s or self._idle_timeout_s))

    def limit_request(self) -> None:
        """Limits the time in which the body of a request must arrive, until `end_request`."""
        if self._config.request_timeout_s:
            self._request_timer = self._timers.after(self._config.request_timeout_s, self._on_request_expiry)

    def end_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def end(self) -> None:
        """The connection is lost. Forgets the callbacks, whose owner has this object: that is a cycle."""
        self._deadline.end()
        self.end_request()
        self._on_request_expiry = _nothing


def _nothing() -> None:
    """The callback of the timeouts of a lost connection."""
