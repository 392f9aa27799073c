from __future__ import annotations

from sidecar.config.http2 import Http2Keepalive
from sidecar.http.h2.keepalive import Http2KeepaliveTimer
from sidecar.timers import Timers
from tests.support.virtual_time import VirtualTime


class Pinged:
    """A keepalive, and what it did."""

    def __init__(self, **settings: float) -> None:
        self.time = VirtualTime()
        self.sent: list[bytes] = []
        self.late = 0
        self.keepalive = Http2KeepaliveTimer(
            Http2Keepalive(timeout_s=2.0, interval_jitter_percent=0.0, **settings),
            Timers(self.time),
            self.sent.append,
            self._expire,
        )
        self.keepalive.start()

    def _expire(self) -> None:
        self.late += 1


def test_a_ping_is_sent_after_each_interval_while_it_is_answered() -> None:
    pinged = Pinged(interval_s=10.0)
    for count in range(1, 4):
        pinged.time.advance(10.1)
        assert len(pinged.sent) == count
        pinged.keepalive.answered(pinged.sent[-1])
    pinged.time.advance(5.0)
    assert pinged.late == 0


def test_an_answer_that_is_late_ends_the_connection_once() -> None:
    pinged = Pinged(interval_s=10.0)
    pinged.time.advance(10.1)
    pinged.keepalive.answered(b"another!")
    pinged.keepalive.received()
    pinged.time.advance(2.1)
    assert pinged.late == 1
    pinged.time.advance(60.0)
    assert (pinged.late, len(pinged.sent)) == (1, 1)


def test_a_request_after_a_long_idle_time_sends_a_ping() -> None:
    pinged = Pinged(connection_idle_interval_s=30.0)
    pinged.time.advance(29.0)
    pinged.keepalive.request_begins()
    assert pinged.sent == []
    pinged.time.advance(2.0)
    pinged.keepalive.request_begins()
    pinged.keepalive.request_begins()
    assert len(pinged.sent) == 1


def test_nothing_is_sent_after_the_end() -> None:
    pinged = Pinged(interval_s=10.0)
    pinged.keepalive.end()
    pinged.time.advance(60.0)
    assert (pinged.sent, pinged.late) == ([], 0)
