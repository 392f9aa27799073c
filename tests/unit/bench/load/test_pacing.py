from __future__ import annotations

import pytest

from tests.bench.load.pacing import Pacer


def pacer(*, connections: int = 2, seconds: float = 0.5) -> Pacer:
    """Ten requests a second, from the time 100."""
    return Pacer(rate_per_s=10, seconds=seconds, connections=connections, start_s=100.0)


def test_requests_fall_due_one_at_a_time() -> None:
    paced = pacer(connections=9)
    assert paced.to_send(100.0) == [0]
    assert paced.to_send(100.05) == []
    assert paced.wait_s(100.05) == pytest.approx(0.05)
    assert paced.to_send(100.25) == [1, 2]


def test_connections_take_turns() -> None:
    paced = pacer()
    sent = []
    for number in range(4):
        now_s = 100.01 + number / 10
        sent += paced.to_send(now_s)
        paced.answered(sent[-1], now_s)
    assert sent == [0, 1, 0, 1]


def test_a_latency_counts_from_the_moment_when_the_request_was_due() -> None:
    """A pause of 300 ms delays the requests that had to wait for a connection, too."""
    paced = pacer(connections=1, seconds=0.4)
    assert paced.to_send(100.0) == [0]
    assert paced.to_send(100.25) == []  # due, but the connection waits for its answer
    paced.answered(0, 100.3)
    for _ in range(3):
        assert paced.to_send(100.31) == [0]
        paced.answered(0, 100.32)
    assert paced.latencies_s == pytest.approx([0.3, 0.22, 0.12, 0.02])


def test_it_is_done_when_every_request_is_answered() -> None:
    paced = pacer(connections=8, seconds=0.2)
    assert paced.to_send(200.0) == [0, 1]
    assert paced.wait_s(200.0) is None
    assert not paced.is_done
    paced.answered(1, 200.1)
    assert list(paced.busy) == [0]
    paced.answered(0, 200.1)
    assert paced.is_done
