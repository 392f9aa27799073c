"""The heads of messages as HTTP/2 writes them: pseudo-headers, and the forms that tunnels have (RFC 9113 8.3
and 8.5, RFC 8441)."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

from sidecar.http.h2.events import HeadReceived
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response

_STATUSES: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}
_METHOD_CONNECT: Final = (b":method", b"CONNECT")
_WEBSOCKET: Final = b"websocket"
_KEY: Final = b"sec-websocket-key"
_ACCEPT: Final = b"sec-websocket-accept"
_WEBSOCKET_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
# Written by the codec of HTTP/1 only.
_NOT_IN_TUNNELS: Final = frozenset((b"content-length",))


def response_head(response: Response) -> Headers:
    """HTTP/1's 101 is a 200 here (RFC 8441 5)."""
    status, headers = response.status, response.headers
    if response.upgraded:
        status = 200 if status == 101 else status
        headers = [field for field in headers if field[0] not in _NOT_IN_TUNNELS and field[0] != _ACCEPT]
    return [_STATUSES.get(status) or (b":status", b"%d" % status), *headers]


def interim_head(status: int, headers: Headers) -> Headers:
    return [_STATUSES[status], *headers]


def request_head(request: Request) -> Headers:
    upgrade = request.upgrade
    if upgrade is None:
        return [
            (b":method", request.method),
            (b":scheme", request.scheme),
            (b":authority", request.authority),
            (b":path", request.path),
            *request.headers,
        ]
    headers = [field for field in request.headers if field[0] not in _NOT_IN_TUNNELS]
    if upgrade == b"connect":
        return [_METHOD_CONNECT, (b":authority", request.authority), *headers]
    return [
        _METHOD_CONNECT,
        (b":protocol", upgrade),
        (b":scheme", request.scheme),
        (b":authority", request.authority),
        (b":path", request.path),
        *headers,
    ]


def requested_upgrade(head: HeadReceived) -> bytes | None:
    """The protocol of the tunnel that a CONNECT requests, as `Request.upgrade`; None for other methods. A
    WebSocket gets the key that HTTP/1 requires, and HTTP/2 does not have."""
    if head.method != b"CONNECT":
        return None
    protocol = head.protocol.lower()
    if not protocol:
        return b"connect"
    if protocol == _WEBSOCKET and get_header(head.headers, _KEY) is None:
        head.headers.append((_KEY, base64.b64encode(os.urandom(16))))
    return protocol


def open_tunnel(response: Response, request: Request) -> None:
    """Gives a 200 that opens a tunnel the form that HTTP/1 has: 101, with the answer to a WebSocket's key."""
    response.upgraded = True
    if request.upgrade == b"connect":
        return
    response.status = 101
    key = get_header(request.headers, _KEY)
    if request.upgrade == _WEBSOCKET and key is not None and get_header(response.headers, _ACCEPT) is None:
        digest = hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest()
        response.headers.append((_ACCEPT, base64.b64encode(digest)))
