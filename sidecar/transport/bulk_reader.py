"""Reads large bodies from a socket without copies.

uvloop reads into a buffer of its own, and copies what it has read into new bytes. For a protocol with
`get_buffer` (`asyncio.BufferedProtocol`) it reads into that buffer: here into the bytes that the codec gets.
A small message would gain nothing, so the codec's own protocol reads those.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from sidecar.transport.plain import is_plain

try:
    from sidecar.transport._read_buffer import ReadBuffer
except ImportError:
    from sidecar.transport.read_buffer_python import ReadBuffer

# A body of which so much is missing is worth the switch.
BULK_BYTES: Final = 128 * 1024
# All reads share it: a transport calls `buffer_updated` before it reads again. Less than what pauses a body
# (`BodyStream`), so that one read does not.
_BUFFER: Final = ReadBuffer(240 * 1024)


class StreamProtocol(Protocol):
    """The methods of an `asyncio.Protocol` that a transport calls."""

    def data_received(self, data: bytes, /) -> None: ...

    def eof_received(self) -> bool | None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class BulkReader:
    """Takes the place of `protocol` at `transport` between `start` and `stop`, if uvloop reads from a socket
    for it, and not TLS."""

    __slots__ = ("_protocol", "_transport", "active")

    def __init__(self, protocol: StreamProtocol, transport: asyncio.Transport) -> None:
        self.active = False
        self._protocol = protocol
        self._transport = transport

    def start(self) -> None:
        if not self.active and is_plain(self._transport):
            self.active = True
            self._switch(self)

    def stop(self) -> None:
        if self.active:
            self.active = False
            self._switch(self._protocol)

    def _switch(self, protocol: StreamProtocol) -> None:
        transport = self._transport
        transport.set_protocol(cast("asyncio.Protocol", protocol))
        if transport.is_reading():  # it chooses the way to read when it starts to
            transport.pause_reading()
            transport.resume_reading()

    # The methods of an `asyncio.BufferedProtocol`.

    def get_buffer(self, size_hint: int) -> Any:
        return _BUFFER.space()

    def buffer_updated(self, size: int) -> None:
        self._protocol.data_received(_BUFFER.take(size))

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
