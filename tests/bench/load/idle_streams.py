"""Streams of HTTP/2 whose requests do not end, for as long as the standard input is open.

python -m tests.bench.load.idle_streams PORT CONNECTIONS STREAMS      `STREAMS` on each connection
"""

from __future__ import annotations

import socket
import sys

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from tests.bench.load.request import HEADERS, PATH

_HEAD = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"frontend"),
    (b":path", PATH.encode()),
    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
]


def main(port: int, connections: int, streams: int) -> None:
    opened = []
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        codec = Http2Connection(Http2Options(), client=True)
        codec.start()
        for _ in range(streams):
            codec.send_head(codec.open_stream(), _HEAD, False)
        connection.sendall(codec.data_to_send())
        opened.append(connection)
    sys.stdin.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
