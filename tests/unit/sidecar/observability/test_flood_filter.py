from __future__ import annotations

import logging

from sidecar.observability.flood_filter import LINES_A_SECOND, FloodFilter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(template: str, *arguments: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("sidecar.listener", level, __file__, 1, template, arguments, None)


def test_a_flood_of_one_kind_of_line_is_cut_and_counted() -> None:
    clock = Clock()
    flood = FloodFilter(clock)
    passed = [flood.filter(record("handshake of %s failed", number)) for number in range(1000)]
    assert sum(passed) == LINES_A_SECOND
    clock.now += 1
    last = record("handshake of %s failed", "10%")
    assert flood.filter(last)
    assert (
        last.getMessage() == f"handshake of 10% failed (and {1000 - LINES_A_SECOND} similar messages omitted)"
    )


def test_another_kind_of_line_is_not_held_back() -> None:
    flood = FloodFilter(Clock())
    for number in range(100):
        flood.filter(record("handshake of %s failed", number))
    assert flood.filter(record("listener %s is active", "a"))


def test_warnings_always_pass() -> None:
    flood = FloodFilter(Clock())
    assert all(flood.filter(record("refused", level=logging.WARNING)) for _ in range(100))
