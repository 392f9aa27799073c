"""PINGs that show whether the peer is alive: ``connection_keepalive`` of Envoy's ``Http2ProtocolOptions``."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from sidecar.config.http2 import Http2Keepalive
from sidecar.timers import Timer, Timers

_PAYLOAD: Final = b"outriggr"


class Http2KeepaliveTimer:
    """Calls `send` with the payload of each PING, and `on_timeout` if its answer is late."""

    __slots__ = (
        "_answer_timer",
        "_interval_timer",
        "_on_timeout",
        "_received_s",
        "_send",
        "_settings",
        "_timers",
    )

    def __init__(
        self,
        settings: Http2Keepalive,
        timers: Timers,
        send: Callable[[bytes], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._timers = timers
        self._send = send
        self._on_timeout = on_timeout
        self._interval_timer: Timer | None = None
        self._answer_timer: Timer | None = None
        self._received_s = timers.now_s()

    def start(self) -> None:
        interval_s = self._settings.interval_s
        if interval_s:
            jitter = interval_s * self._settings.interval_jitter_percent / 100 * random.random()
            self._interval_timer = self._timers.after(interval_s + jitter, self._ping)

    def received(self) -> None:
        """Data has arrived. As in Envoy, it does not replace the answer to a PING."""
        self._received_s = self._timers.now_s()

    def request_begins(self) -> None:
        """Sends a PING before a request on a connection that was idle for long."""
        idle_s = self._settings.connection_idle_interval_s
        if idle_s is not None and self._timers.now_s() - self._received_s >= idle_s:
            self._ping()

    def answered(self, payload: bytes) -> None:
        if payload == _PAYLOAD and self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
            if self._interval_timer is None:
                self.start()

    def end(self) -> None:
        for timer in (self._interval_timer, self._answer_timer):
            if timer is not None:
                timer.cancel()
        self._interval_timer = self._answer_timer = None

    def _ping(self) -> None:
        if self._interval_timer is not None:
            self._interval_timer.cancel()
            self._interval_timer = None
        if self._answer_timer is None:
            self._answer_timer = self._timers.after(self._settings.timeout_s, self._expire)
            self._send(_PAYLOAD)

    def _expire(self) -> None:
        self._answer_timer = None
        self._on_timeout()
