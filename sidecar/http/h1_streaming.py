"""A response's body on its way out, piece by piece, at the pace at which the client reads."""

from __future__ import annotations

from typing import Protocol

from sidecar.errors import UpstreamProtocolError
from sidecar.http.h1_writer import chunk, last_chunk
from sidecar.http.message import BodyReader
from sidecar.observability.stream_info import StreamInfo


class Outlet(Protocol):
    """The connection, as the sender of a body sees it."""

    def write(self, data: bytes) -> None: ...

    async def moved(self) -> None:
        """Something was written: the stream is not idle; returns when the client has room for more."""


async def send_raw(outlet: Outlet, body: BodyReader, info: StreamInfo) -> None:
    """To the end of the body, which is the end of the connection, or of a tunnel."""
    while data := await body.read():
        info.bytes_sent += len(data)
        outlet.write(data)
        await outlet.moved()


async def send_sized(outlet: Outlet, body: BodyReader, info: StreamInfo, length: int) -> None:
    """RFC 9112 8: raises `UpstreamProtocolError` for a body that is not as long as its head said, lest its
    bytes pass for the next response, or the next response for its bytes."""
    while data := await body.read():
        info.bytes_sent += len(data)
        if info.bytes_sent > length:
            break
        outlet.write(data)
        await outlet.moved()
    if info.bytes_sent != length:
        raise UpstreamProtocolError(f"a response body of other than the {length} bytes that it said")


async def send_chunked(outlet: Outlet, body: BodyReader, info: StreamInfo) -> None:
    while data := await body.read():
        info.bytes_sent += len(data)
        outlet.write(chunk(data))
        await outlet.moved()
    outlet.write(last_chunk(body.trailers))
