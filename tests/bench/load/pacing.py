"""An open loop, decided purely: requests fall due at a fixed rate, however slowly the answers come.

A latency counts from the moment at which the request was due, not from when a connection was free to send it:
so a pause of the proxy counts for every request that it delays (coordinated omission).
"""

from __future__ import annotations

from collections import deque


class Pacer:
    """`rate_per_s` requests a second for `seconds`, one at a time, each on the first free connection.
    Connections are numbers from 0. All times are seconds of one clock."""

    def __init__(self, *, rate_per_s: float, seconds: float, connections: int, start_s: float) -> None:
        self.latencies_s: list[float] = []
        self._period_s = 1 / rate_per_s
        self._start_s = start_s
        self._total = int(rate_per_s * seconds)
        self._begun = 0
        self._waiting: deque[float] = deque()
        self._free = deque(range(connections))
        self._due_s: dict[int, float] = {}

    @property
    def busy(self) -> dict[int, float]:
        """The connections that wait for an answer."""
        return self._due_s

    @property
    def is_done(self) -> bool:
        return len(self.latencies_s) == self._total

    def wait_s(self, now_s: float) -> float | None:
        """How long nothing falls due; None if nothing will."""
        if self._begun == self._total:
            return None
        return max(0.0, self._next_s() - now_s)

    def to_send(self, now_s: float) -> list[int]:
        """The connections on which a request is to be sent now."""
        while self._begun < self._total and self._next_s() <= now_s:
            self._waiting.append(self._next_s())
            self._begun += 1
        sending = []
        while self._waiting and self._free:
            connection = self._free.popleft()
            self._due_s[connection] = self._waiting.popleft()
            sending.append(connection)
        return sending

    def answered(self, connection: int, now_s: float) -> None:
        self.latencies_s.append(now_s - self._due_s.pop(connection))
        self._free.append(connection)

    def _next_s(self) -> float:
        return self._start_s + self._begun * self._period_s
