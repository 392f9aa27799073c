"""Requests at a steady rate, whatever the answers do; see `pacing`.

python -m tests.bench.load.open_loop PARAMETERS      prints a `Load`; see `Parameters`

`select` waits with microseconds, where uvloop and epoll round to milliseconds. A program such as vegeta or
wrk2 would have to be built first.
"""

from __future__ import annotations

import ctypes
import gc
import json
import select
import socket
import sys
import time
from dataclasses import dataclass

from tests.bench.load.latencies import load_of
from tests.bench.load.pacing import Pacer
from tests.bench.load.request import encoded

_PR_SET_TIMERSLACK = 29
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    port: int
    seconds: float
    rate_per_s: float
    connections: int
    body_bytes: int


class Connection:
    """`body_bytes` is the length of each answer's body."""

    def __init__(self, port: int, body_bytes: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._body_bytes = body_bytes
        self._buffer = b""

    def read(self) -> bool:
        """Whether the answer is complete."""
        part = self.socket.recv(65536)
        self._buffer += part
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not part or (separator and not head.startswith(b"HTTP/1.1 200")):
            raise RuntimeError(f"a connection ended, or a request failed: {self._buffer[:100]!r}")
        if not separator or len(body) < self._body_bytes:
            return False
        self._buffer = b""
        return True


def drive(parameters: Parameters) -> Pacer:
    request = encoded(f"/bytes/{parameters.body_bytes}")
    connections = [Connection(parameters.port, parameters.body_bytes) for _ in range(parameters.connections)]
    sockets = [connection.socket for connection in connections]
    numbers = {each: number for number, each in enumerate(sockets)}
    pacer = Pacer(
        rate_per_s=parameters.rate_per_s,
        seconds=parameters.seconds,
        connections=parameters.connections,
        start_s=time.perf_counter(),
    )
    end_s = time.perf_counter() + parameters.seconds + _PATIENCE_S
    while not pacer.is_done:
        for number in pacer.to_send(time.perf_counter()):
            sockets[number].sendall(request)
        now_s = time.perf_counter()
        wait_s = pacer.wait_s(now_s)
        readable, _, _ = select.select(
            [sockets[number] for number in pacer.busy], [], [], _PATIENCE_S if wait_s is None else wait_s
        )
        now_s = time.perf_counter()
        for each in readable:
            if connections[numbers[each]].read():
                pacer.answered(numbers[each], now_s)
        if now_s > end_s:
            raise RuntimeError(f"requests were not answered within {_PATIENCE_S:g} s after the last")
    return pacer


def main(parameters: Parameters) -> None:
    gc.disable()
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # nanoseconds, instead of 50 us
    start_s = time.perf_counter()
    pacer = drive(parameters)
    print(load_of(pacer.latencies_s, time.perf_counter() - start_s).to_json())


if __name__ == "__main__":
    main(Parameters(**json.loads(sys.argv[1])))
