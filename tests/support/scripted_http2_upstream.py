"""A server of HTTP/2 that writes any frames, also invalid ones, and records what its requests bring.

The header ``answer`` names the script of a request in `SCRIPTS`, separated by ``then`` for each attempt.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, RstStreamFrame

from tests.support import http2_frames as frames
from tests.support.http2_frames import Heads
from tests.support.recording_upstream import SeenRequest

_SETTLED_S = 1.0

Step = Callable[["Exchange"], None]


@dataclass(slots=True)
class Exchange:
    connection: Connection
    stream_id: int
    seen: SeenRequest
    script: Script
    block: bytes = b""


@dataclass(frozen=True, slots=True)
class Script:
    """The steps when the head has arrived, and when the request is complete."""

    early: Sequence[Step] = ()
    late: Sequence[Step] = ()


def head(status: str = "200", *fields: tuple[str, str], end: bool = False) -> Step:
    encoded = [(b":status", status.encode()), *((name.encode(), value.encode()) for name, value in fields)]

    def step(exchange: Exchange) -> None:
        heads, size = exchange.connection.heads, 16_000
        block = heads.block(encoded)
        flags = (1 if end else 0) | (4 if len(block) <= size else 0)
        exchange.connection.write(frames.raw(1, flags, exchange.stream_id, block[:size]))
        for at in range(size, len(block), size):
            flags = 4 if at + size >= len(block) else 0
            exchange.connection.write(frames.raw(9, flags, exchange.stream_id, block[at : at + size]))

    return step


def body(data: bytes, *, end: bool = False) -> Step:
    def step(exchange: Exchange) -> None:
        exchange.connection.write(frames.data(exchange.stream_id, data, end=end))

    return step


def trailers(*fields: tuple[str, str], end: bool = True) -> Step:
    def step(exchange: Exchange) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in fields]
        exchange.connection.write(exchange.connection.heads.frames(exchange.stream_id, encoded, end=end))

    return step


def reset(code: int) -> Step:
    return lambda exchange: exchange.connection.write(frames.reset(exchange.stream_id, code))


def goaway(code: int = 0, *, processed: bool = True) -> Step:
    """`processed`: the stream of the request is the last one; else it is refused."""

    def step(exchange: Exchange) -> None:
        last = exchange.stream_id if processed else max(exchange.stream_id - 2, 0)
        exchange.connection.write(frames.goaway(last, code))

    return step


def close(exchange: Exchange) -> None:
    exchange.connection.ends = True


class ScriptedHttp2Upstream:
    def __init__(self, scripts: dict[str, Script]) -> None:
        self._scripts = scripts
        self._seen: list[SeenRequest] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listening.getsockname()[1]

    def take_seen(self) -> list[SeenRequest]:
        """The requests since the last call, when each has ended: ``framing`` says how."""
        end_s = time.monotonic() + _SETTLED_S
        while any(seen.framing == "open" for seen in self._seen) and time.monotonic() < end_s:
            time.sleep(0.002)
        seen, self._seen = self._seen, []
        return seen

    def until_asked(self) -> None:
        end_s = time.monotonic() + _SETTLED_S
        while not self._seen and time.monotonic() < end_s:
            time.sleep(0.002)

    def begin(self, exchange: Exchange) -> None:
        names = (exchange.seen.value("answer") or "ok").split(" then ")
        self._seen.append(exchange.seen)
        exchange.script = self._scripts[names[min(len(self._seen), len(names)) - 1]]

    def run(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                self._sockets.append(accepted)
                thread = threading.Thread(target=Connection(self, accepted).serve, name="http2 upstream")
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        for each in (self._listening, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()


class Connection:
    def __init__(self, upstream: ScriptedHttp2Upstream, accepted: socket.socket) -> None:
        self._upstream = upstream
        self._socket = accepted
        self._out = b""
        self._exchanges: dict[int, Exchange] = {}
        self._ends_stream = False  # the head that is being read
        self.heads = Heads()
        self.ends = False

    def write(self, data: bytes) -> None:
        """Sent in one piece with the other steps."""
        self._out += data

    def serve(self) -> None:
        with suppress(OSError), self._socket, self._socket.makefile("rb") as reader:
            if reader.read(len(frames.PREFACE)) == frames.PREFACE:
                self._socket.sendall(frames.settings())
                while not self.ends and (header := reader.read(9)):
                    size = int.from_bytes(header[:3], "big")
                    self._take(header + reader.read(size))
                    self._socket.sendall(self._out)
                    self._out = b""
                if self.ends:
                    self._socket.shutdown(socket.SHUT_WR)
                    while reader.read(65_536):
                        pass
        for exchange in self._exchanges.values():
            _end(exchange, "connection closed")

    def _take(self, received: bytes) -> None:
        if received[3] == 4 and not received[4]:  # SETTINGS
            self.write(frames.settings(ack=True))
        frame, size = Frame.parse_frame_header(memoryview(received[:9]))
        frame.parse_body(memoryview(received[9 : 9 + size]))
        exchange = self._exchanges.get(frame.stream_id)
        if isinstance(frame, HeadersFrame | ContinuationFrame):
            self._take_head(frame, exchange)
        elif isinstance(frame, DataFrame) and exchange is not None:
            exchange.seen.body += bytes(frame.data).decode("latin-1")
            if frame.flow_controlled_length:
                self.write(frames.window_update(0, frame.flow_controlled_length))
                self.write(frames.window_update(frame.stream_id, frame.flow_controlled_length))
            if "END_STREAM" in frame.flags:
                self._complete(exchange)
        elif isinstance(frame, RstStreamFrame) and exchange is not None:
            _end(exchange, f"reset {frame.error_code}")

    def _take_head(self, frame: HeadersFrame | ContinuationFrame, exchange: Exchange | None) -> None:
        found = exchange or Exchange(self, frame.stream_id, SeenRequest("upstream", "", [], "open"), Script())
        if isinstance(frame, HeadersFrame):
            found.block = b""
            self._ends_stream = "END_STREAM" in frame.flags
        found.block += bytes(frame.data)
        self._exchanges[frame.stream_id] = found
        if "END_HEADERS" not in frame.flags:
            return
        fields = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.heads.read(found.block)]
        if exchange is not None and exchange.seen.line:
            found.seen.trailers = fields
        else:
            found.seen.fields = fields
            found.seen.line = f"{found.seen.value(':method')} {found.seen.value(':path')}"
            self._upstream.begin(found)
            for step in found.script.early:
                step(found)
        if self._ends_stream:
            self._complete(found)

    def _complete(self, exchange: Exchange) -> None:
        for step in exchange.script.late:
            step(exchange)
        if exchange.script.late or exchange.script.early:  # else the proxy gives it up
            _end(exchange, "ended")


def _end(exchange: Exchange, framing: str) -> None:
    if exchange.seen.framing == "open":
        exchange.seen.framing = framing


@contextmanager
def scripted_http2_upstream(scripts: dict[str, Script]) -> Iterator[ScriptedHttp2Upstream]:
    upstream = ScriptedHttp2Upstream(scripts)
    thread = threading.Thread(target=upstream.run, name="http2 upstream accepts")
    thread.start()
    try:
        yield upstream
    finally:
        upstream.close()
        thread.join()
