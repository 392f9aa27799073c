"""A channel between two of the sidecar's processes: pickled messages over a Unix stream socket.

Each message has a header, its length and the number of file descriptors that come with it (0 or 1). Both ends
are processes of one sidecar, forked from one parent: unpickling what arrives is as safe as calling it.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import struct
from collections import deque
from typing import Any, Final

from sidecar.process import pickling

_HEADER: Final = struct.Struct("!IB")
_READ_BYTES: Final = 256 * 1024
_MOST_DESCRIPTORS: Final = 64  # in one read

Frame = bytes
"""An encoded message, which can be sent to several receivers."""


def encode(message: object, *, with_descriptor: bool = False) -> Frame:
    body = pickling.dumps(message)
    return _HEADER.pack(len(body), with_descriptor) + body


def send_blocking(sock: socket.socket, message: object, descriptor: int) -> None:
    """Sends a short message with a descriptor, without an event loop. Raises `OSError`."""
    frame = encode(message, with_descriptor=True)
    sent = socket.send_fds(sock, [frame], [descriptor])
    sock.sendall(frame[sent:])


class WorkerChannel:
    """One end of a channel. It belongs to the running event loop, and closes ``sock``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock: Final = sock
        self._loop: Final = asyncio.get_running_loop()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._messages: deque[tuple[Any, int]] = deque()
        self._outgoing: deque[tuple[memoryview, int]] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._ended = False
        self._loop.add_reader(sock.fileno(), self._read)

    # Sending.

    def send(self, message: object, descriptor: int = -1) -> None:
        """Never waits. The descriptor is duplicated; it is -1 for a message without one. A message after the
        end of the channel is dropped."""
        if descriptor >= 0:
            descriptor = os.dup(descriptor)
        self.send_frame(encode(message, with_descriptor=descriptor >= 0), descriptor)

    def send_frame(self, frame: Frame, descriptor: int = -1) -> None:
        """As `send`, but takes over the descriptor."""
        if self._ended:
            _close(descriptor)
            return
        self._outgoing.append((memoryview(frame), descriptor))
        if len(self._outgoing) == 1:
            self._write()

    def _write(self) -> None:
        try:
            while self._outgoing:
                data, descriptor = self._outgoing[0]
                if descriptor >= 0:
                    sent = socket.send_fds(self._sock, [data], [descriptor])
                    os.close(descriptor)
                else:
                    sent = self._sock.send(data)
                if sent == len(data):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = (data[sent:], -1)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock.fileno(), self._write)
        except OSError:
            self.close()
        else:
            self._loop.remove_writer(self._sock.fileno())

    # Receiving.

    async def receive(self) -> tuple[Any, int]:
        """The next message, and the descriptor that came with it, or -1. Only one task may wait. Raises
        `EOFError` at the end of the channel."""
        while not self._messages:
            if self._ended:
                raise EOFError
            self._arrival = self._loop.create_future()
            await self._arrival
        return self._messages.popleft()

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, _READ_BYTES, _MOST_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        self._descriptors.extend(descriptors)
        if not data:
            self.close()
            return
        self._received += data
        self._split()
        self._wake()

    def _split(self) -> None:
        start = 0
        while len(self._received) - start >= _HEADER.size:
            length, has_descriptor = _HEADER.unpack_from(self._received, start)
            body = start + _HEADER.size
            if len(self._received) < body + length:
                break
            message = pickle.loads(memoryview(self._received)[body : body + length])
            self._messages.append((message, self._descriptors.popleft() if has_descriptor else -1))
            start = body + length
        del self._received[:start]

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # The end.

    def close(self) -> None:
        """Messages that have arrived can still be received; those that were not sent are dropped."""
        if self._ended:
            return
        self._ended = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for descriptor in (*self._descriptors, *(descriptor for _, descriptor in self._outgoing)):
            _close(descriptor)
        self._descriptors.clear()
        self._outgoing.clear()
        self._wake()


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
