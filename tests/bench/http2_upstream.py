"""The HTTP/2 server behind the proxies: the same answers as `tests.bench.upstream`. Prints the port.

python -m tests.bench.http2_upstream
"""

from __future__ import annotations

import asyncio
import gc
from typing import cast

import uvloop

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import DataReceived, HeadReceived
from sidecar.http.headers import Headers

_BODY = b"x" * 512
_HEAD: Headers = [
    (b":status", b"200"),
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"accept-encoding"),
    (b"etag", b"W/0123456789"),
    (b"content-length", b"512"),
]


class Http2Upstream:
    """One connection."""

    def __init__(self) -> None:
        self._codec = Http2Connection(Http2Options(), client=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._codec.start()
        self._transport.write(self._codec.data_to_send())

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        for event in codec.receive(data):
            if isinstance(event, DataReceived):
                codec.consumed(event.stream, len(event.data))
            if isinstance(event, HeadReceived | DataReceived) and event.end_stream:
                codec.send_head(event.stream, _HEAD, False)
                codec.send_data(event.stream, _BODY, True)
        answers = codec.data_to_send()
        if answers:
            self._transport.write(answers)

    def connection_lost(self, error: Exception | None) -> None: ...

    def eof_received(self) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


async def main() -> None:
    gc.disable()  # its pauses would count as the proxies' latency
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Http2Upstream,  # type: ignore[arg-type]  # it has the methods, not the base class
        "127.0.0.1",
        0,
        backlog=1024,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
