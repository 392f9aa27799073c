"""Requests as a codec would make them."""

from __future__ import annotations

from typing import Any

from sidecar.config.endpoint import SocketAddress
from sidecar.http.body import Body
from sidecar.http.headers import Headers
from sidecar.http.message import Request
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo


def connection_with(**facts: Any) -> DownstreamConnection:
    return DownstreamConnection(
        id=1,
        remote_address=SocketAddress("127.0.0.1", 40000),
        local_address=SocketAddress("127.0.0.1", 15001),
        **facts,
    )


CONNECTION = connection_with()


def make_request(
    path: bytes = b"/",
    *,
    method: bytes = b"GET",
    authority: bytes = b"reviews",
    headers: Headers | None = None,
    body: bytes | Body = b"",
    connection: DownstreamConnection = CONNECTION,
) -> Request:
    content = Body(body) if isinstance(body, bytes) else body
    info = StreamInfo(connection, 0.0, 0.0)
    return Request(method, b"http", authority, path, headers or [], content, info)
