"""One end of a TCP or TLS connection: ends as required, and reports how the other end ended. Blocking."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

DEADLINE_S = 10.0
SMALL_BUFFER_BYTES = 16 * 1024

# How a stream was seen to end.
END = "end"  # a FIN; under TLS after a close_notify
CUT = "cut"  # under TLS a FIN alone
RESET = "reset"
OPEN = "open"  # nothing more came within the deadline


class StreamPeer:
    """With a ``context`` it speaks TLS, whose directions end one by one, as TCP's do."""

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext | None = None, *, server_side: bool = False
    ) -> None:
        self.socket = connection
        self.socket.settimeout(DEADLINE_S)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl: ssl.SSLObject | None = None
        if context is not None:
            self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
            self._shake_hands(self._ssl)

    def send(self, data: bytes) -> None:
        if self._ssl is not None:
            view = memoryview(data)
            while view:
                view = view[self._ssl.write(view) :]
            data = self._outgoing.read()
        self.socket.sendall(data)

    def end(self) -> None:
        """Ends sending; receiving continues."""
        if self._ssl is None:
            self.socket.shutdown(socket.SHUT_WR)
            return
        with suppress(ssl.SSLWantReadError):
            self._ssl.unwrap()
        self.socket.sendall(self._outgoing.read())

    def close(self) -> None:
        """Ends, and takes nothing more."""
        with suppress(OSError):
            self.end()
        self.socket.close()

    def __enter__(self) -> StreamPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def receive(self) -> bytes:
        """Some bytes, or none at the end. Raises ``EOFError`` for TLS that is cut, and ``OSError``."""
        return self._receive_at_most(65536)

    def _receive_at_most(self, size: int) -> bytes:
        if self._ssl is None:
            return self.socket.recv(size)
        while True:
            try:
                return self._ssl.read(size)
            except ssl.SSLWantReadError:
                self._feed()
            except ssl.SSLZeroReturnError:
                return b""

    def receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.receive()
            if not piece:
                raise EOFError(f"{len(data)} bytes of {size}")
            data += piece
        return data

    def receive_head(self) -> bytes:
        """Of HTTP, with the empty line, and not one byte after it."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._receive_at_most(1)
        return head

    def drain(self, pause: Callable[[], object] | None = None) -> Seen:
        """All that comes, and how it ends. ``pause`` is called before each read."""
        data = bytearray()
        try:
            while True:
                if pause is not None:
                    pause()
                piece = self.receive()
                if not piece:
                    return Seen(bytes(data), END)
                data += piece
        except EOFError:
            return Seen(bytes(data), CUT)
        except TimeoutError:
            return Seen(bytes(data), OPEN)
        except ConnectionError:
            return Seen(bytes(data), RESET)

    def _shake_hands(self, session: ssl.SSLObject) -> None:
        while True:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._feed()
            else:
                self.socket.sendall(self._outgoing.read())
                return

    def _feed(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("a FIN without a close_notify")
        self._incoming.write(data)


@dataclass(frozen=True, slots=True)
class Seen:
    data: bytes
    how: str

    def __repr__(self) -> str:
        return f"{len(self.data)} bytes, then {self.how}"


class StreamHost:
    """Listens on ``port``."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._listening.settimeout(DEADLINE_S)
        self._pool = ThreadPoolExecutor(1)
        self.port: int = self._listening.getsockname()[1]

    def accept(self, *, receive_buffer_bytes: int = 0) -> Future[StreamPeer]:
        """The next connection, its TLS handshake done."""
        if receive_buffer_bytes:  # what is accepted inherits it
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        return self._pool.submit(self._accept)

    def _accept(self) -> StreamPeer:
        connection, _ = self._listening.accept()
        return StreamPeer(connection, self._context, server_side=True)

    def close(self) -> None:
        self._listening.close()
        self._pool.shutdown()


def connect_stream(
    port: int, context: ssl.SSLContext | None = None, *, receive_buffer_bytes: int = 0
) -> StreamPeer:
    connection = socket.socket()
    if receive_buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    connection.settimeout(DEADLINE_S)
    connection.connect(("127.0.0.1", port))
    return StreamPeer(connection, context)
