"""Passes bytes from socket to socket, in Python. `forwarding` uses `_forwarder` instead, the same classes in
Cython, where it was compiled."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

_READS = 64


class Flow:
    """The bytes of one direction: those that arrive at the descriptor `source` go to the descriptor `sink`,
    both of TCP sockets that do not block. `moved_bytes` counts those that the kernel has taken for the sink.

    ``on_stop`` is called when the flow has stopped by itself, with the bytes that were read and that the
    kernel did not take for the sink, and the number of an error of the source. At the end of the source there
    is neither (``b""``, 0). A failure of the sink counts as bytes that were not taken.
    """

    def __init__(self, source: int, sink: int, on_stop: Callable[[bytes, int], None]) -> None:
        self.source = source
        self.sink = sink
        self.moved_bytes = 0
        self.running = False
        self.on_stop = on_stop


class Forwarder:
    """Runs flows, in one buffer for all of them. `run` must be called when `fileno` is readable, and a flow
    must be stopped before one of its descriptors is closed."""

    def __init__(self, buffer_bytes: int) -> None:
        self._flows: dict[int, Flow] = {}  # by the descriptor of the source: the running ones
        self._epoll = select.epoll()
        self._buffer_bytes = buffer_bytes

    def close(self) -> None:
        self._epoll.close()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def start(self, flow: Flow) -> None:
        """Raises `OSError`."""
        self._epoll.register(flow.source, select.EPOLLIN)
        self._flows[flow.source] = flow
        flow.running = True

    def stop(self, flow: Flow) -> None:
        if flow.running:
            flow.running = False
            del self._flows[flow.source]
            self._epoll.unregister(flow.source)

    def run(self) -> None:
        """Reads from each source that has bytes, at most one buffer, and writes them to its sink. Repeats it
        while several sources have bytes, up to 64 reads: then others of the event loop have their turn."""
        left = _READS
        while left > 0:
            events = self._epoll.poll(0, left)
            for descriptor, _ in events:
                flow = self._flows.get(descriptor)
                if flow is not None:  # else one of the events before has stopped it
                    self._pass_on(flow)
            if len(events) < 2:  # probably no more have arrived meanwhile
                break
            left -= len(events)

    def _pass_on(self, flow: Flow) -> None:
        try:
            data = os.read(flow.source, self._buffer_bytes)
        except BlockingIOError:
            return
        except OSError as error:
            self.stop(flow)
            flow.on_stop(b"", error.errno or 0)
            return
        sent = _send(flow.sink, data) if data else 0
        flow.moved_bytes += sent
        if sent < len(data) or not data:
            self.stop(flow)
            flow.on_stop(data[sent:], 0)


def _send(sink: int, data: bytes) -> int:
    """The number of bytes that the kernel has taken; 0 also if the sink is broken."""
    try:
        return os.write(sink, data)
    except OSError:
        return 0
