"""One HTTP/1.1 request of the sidecar to the application, on a connection of its own."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sidecar.application.connection import open_http
from sidecar.config.endpoint import SocketAddress
from sidecar.http.body import EMPTY
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo

_NO_CLIENT = DownstreamConnection(
    id=0, remote_address=SocketAddress("", 0), local_address=SocketAddress("", 0)
)


@asynccontextmanager
async def exchange(
    address: SocketAddress,
    path: str,
    headers: Headers,
    *,
    method: bytes = b"GET",
    authority: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Response]:
    """The response, whose head has arrived. Closes the connection at the end. Raises `OSError` or
    `RequestError`."""
    connection = await open_http(address, tls)
    try:
        request = local_request(address, path, headers, method=method, authority=authority, tls=tls)
        yield await connection.send(request)
    finally:
        connection.close()


def local_request(
    address: SocketAddress,
    path: str,
    headers: Headers,
    *,
    method: bytes = b"GET",
    authority: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> Request:
    info = StreamInfo(_NO_CLIENT, time.monotonic(), time.time())
    scheme = b"http" if tls is None else b"https"
    return Request(method, scheme, authority or str(address).encode(), path.encode(), headers, EMPTY, info)
