"""A client of HTTP/1.1 that sends any bytes, also invalid ones, and reports exactly the received bytes."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

DEADLINE_S = 5.0


@dataclass(slots=True)
class Answer:
    """``fields`` keep their names' case, and duplicates. ``framing`` says how the body's end is known."""

    status: int
    fields: list[tuple[str, str]]
    framing: str = "none"
    body: str = ""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.fields if field_name.lower() == name]


class RawConnection:
    """A connection to 127.0.0.1. Reading past the peer's end raises `EOFError`, or `ConnectionError`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self._buffer = b""
        self.address: tuple[str, int] = self._socket.getsockname()
        """The client's."""

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """A peer that has refused earlier bytes may have closed: only its answer counts."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def read_answer(self, method: str) -> Answer:
        """The next response, interim or final, to a request of `method`."""
        head = self._read_until(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            raise ValueError(f"no status line: {line!r}")
        answer = Answer(int(status), [_field(text) for text in lines])
        self._read_body(answer, method)
        return answer

    def read_rest(self) -> str:
        """Everything up to the peer's end."""
        with suppress(ConnectionError):
            while self._receive():
                pass
        rest, self._buffer = self._buffer, b""
        return rest.decode("latin-1")

    def _read_body(self, answer: Answer, method: str) -> None:
        tunnel = method == "CONNECT" and answer.status == 200
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304) or tunnel:
            return
        lengths = answer.values("content-length")
        if "chunked" in answer.values("transfer-encoding"):
            answer.framing = "chunked"
            self._read_chunks(answer)
        elif lengths:
            answer.framing = "length"
            answer.body = self._read_exactly(int(lengths[0])).decode("latin-1")
        else:
            answer.framing = "until close"
            answer.body = self.read_rest()

    def _read_chunks(self, answer: Answer) -> None:
        """Ignores how a body is divided into chunks."""
        while size := int(self._read_until(b"\r\n"), 16):
            answer.body += self._read_exactly(size).decode("latin-1")
            self._read_exactly(2)
        while line := self._read_until(b"\r\n")[:-2]:
            answer.trailers.append(_field(line.decode("latin-1")))

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            if not self._receive():
                raise EOFError(f"closed after {self._buffer[-200:]!r}")
        return self._read_exactly(self._buffer.index(end) + len(end))

    def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._receive():
                raise EOFError(f"closed within a body, after {self._buffer[-200:]!r}")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> bool:
        data = self._socket.recv(65536)
        self._buffer += data
        return bool(data)


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip(" \t")
