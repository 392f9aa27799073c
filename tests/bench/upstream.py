"""The cheapest upstream that speaks HTTP/1.1: the proxies are measured, not this. Prints its port."""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

BODY = b"x" * 512
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-cache\r\n"
    b"vary: accept-encoding\r\netag: W/0123456789\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Upstream(asyncio.Protocol):
    """Answers once per blank line: requests without bodies only."""

    def __init__(self) -> None:
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        count = data.count(b"\r\n\r\n")
        self._tail = data[data.rindex(b"\r\n\r\n") + 4 :] if count else data
        if count:
            self._transport.write(ANSWER * count)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
