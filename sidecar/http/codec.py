"""Chooses the HTTP version of each connection, and its codec: by the configuration, by ALPN (RFC 7301), or by
the connection preface of HTTP/2 (RFC 9113 3.4).

`SERVER_CODECS` and `CLIENT_CODECS` are the supported versions; another version is one row in each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from sidecar.config.codec_type import CodecType
from sidecar.errors import RequestError
from sidecar.http.connection_manager import CodecFactory, ManagedConnection, ServerCodec
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.h1.server import Http1ServerConnection
from sidecar.http.h2.client import Http2ClientConnection
from sidecar.http.h2.server import Http2ServerConnection
from sidecar.http.stream import ServerStream
from sidecar.upstream.connection import ClientConnection, ClientEnvironment


class HttpVersion(Enum):
    """Each version has a codec of its own."""

    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"


def _http1_client(env: ClientEnvironment) -> ClientConnection:
    env.stats.upstream_cx_http1_total += 1
    return Http1ClientConnection()


def _http2_client(env: ClientEnvironment) -> ClientConnection:
    env.stats.upstream_cx_http2_total += 1
    return Http2ClientConnection(env)


SERVER_CODECS: Final[dict[HttpVersion, CodecFactory]] = {
    HttpVersion.HTTP1: Http1ServerConnection,
    HttpVersion.HTTP2: Http2ServerConnection,
}
CLIENT_CODECS: Final[dict[HttpVersion, Callable[[ClientEnvironment], ClientConnection]]] = {
    HttpVersion.HTTP1: _http1_client,
    HttpVersion.HTTP2: _http2_client,
}

_CONFIGURED: Final = {CodecType.HTTP1: HttpVersion.HTTP1, CodecType.HTTP2: HttpVersion.HTTP2}
_ALPN_HTTP2: Final = "h2"
# The first line of the connection preface, which no HTTP/1 request has: RFC 9113 11.6 reserves the method.
# The codec of HTTP/2 verifies the rest.
_PREFACE_LINE: Final = b"PRI * HTTP/2.0\r\n"


# The choice.


def server_version(codec_type: CodecType, alpn: str, first_bytes: bytes) -> HttpVersion | None:
    """Returns the version of an accepted connection, or None while its `first_bytes` do not decide it. `alpn`
    is the protocol that ALPN chose, empty if none. As in Envoy, AUTO looks at the bytes only if ALPN chose
    nothing, and every protocol other than h2 is HTTP/1."""
    if codec_type is not CodecType.AUTO:
        return _CONFIGURED[codec_type]
    if alpn:
        return _negotiated(alpn)
    if first_bytes.startswith(_PREFACE_LINE):
        return HttpVersion.HTTP2
    return None if _PREFACE_LINE.startswith(first_bytes) else HttpVersion.HTTP1


def client_version(codec_type: CodecType, alpn: str) -> HttpVersion:
    """Returns the version of a connection to a host. `alpn` is the protocol that the host chose, empty if
    none. As in Envoy, it decides only for AUTO."""
    return _negotiated(alpn) if codec_type is CodecType.AUTO else _CONFIGURED[codec_type]


def _negotiated(alpn: str) -> HttpVersion:
    return HttpVersion.HTTP2 if alpn == _ALPN_HTTP2 else HttpVersion.HTTP1


# The codecs.


def server_codec(connection: ManagedConnection) -> ServerCodec:
    """Returns the codec of an accepted connection, after its TLS handshake."""
    codec_type = connection.manager.config.codec_type
    version = server_version(codec_type, connection.downstream.alpn, b"")
    return UndecidedConnection(connection) if version is None else SERVER_CODECS[version](connection)


def client_codec(codec_type: CodecType, env: ClientEnvironment) -> Callable[[str], ClientConnection]:
    """Returns the factory of the connections to the hosts of a cluster; it takes the protocol that a host
    chose by ALPN, empty if none."""
    return lambda alpn: CLIENT_CODECS[client_version(codec_type, alpn)](env)


class UndecidedConnection:
    """The `ServerCodec` of a connection until the client's first bytes decide the version.

    Meanwhile the codec of HTTP/1 serves the connection: it enforces the timeouts, and reads the bytes at
    once. If they become the preface, HTTP/1 has answered nothing yet, and gives the connection to the codec
    of HTTP/2, which reads them from the start.
    """

    __slots__ = ("_connection", "_decided", "_first_bytes", "_http1", "_transport")

    def __init__(self, connection: ManagedConnection) -> None:
        self._connection = connection
        self._http1 = Http1ServerConnection(connection)
        self._first_bytes = b""
        self._decided = False
        self._transport: asyncio.Transport | None = None

    def data_received(self, data: bytes) -> None:
        if self._decided:
            self._http1.data_received(data)
            return
        first_bytes = self._first_bytes + data  # does not copy `data` if it comes first
        version = server_version(CodecType.AUTO, "", first_bytes)
        if version is None:
            self._first_bytes = first_bytes
        elif version is HttpVersion.HTTP1 or not self._http1.release():
            # It stays behind this object: with another protocol, the transport would stop and start to read,
            # which takes two system calls.
            self._decided = True
            self._first_bytes = b""
            self._connection.codec = self._http1
        else:
            self._connection.received(-len(self._first_bytes))  # the other codec counts them again
            codec = SERVER_CODECS[version](self._connection)
            assert self._transport is not None
            self._connection.codec = codec
            self._transport.set_protocol(cast("asyncio.Protocol", codec))
            codec.connection_made(self._transport)
            codec.data_received(first_bytes)
            return
        self._http1.data_received(data)

    # HTTP/1 handles the other events.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._http1.connection_made(transport)

    def eof_received(self) -> bool:
        return self._http1.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._http1.connection_lost(exc)

    def pause_writing(self) -> None:
        self._http1.pause_writing()

    def resume_writing(self) -> None:
        self._http1.resume_writing()

    def go_away(self) -> None:
        self._http1.go_away()

    def give_up(self, stream: ServerStream, error: RequestError) -> None:
        self._http1.give_up(stream, error)

    def close(self) -> None:
        self._http1.close()
