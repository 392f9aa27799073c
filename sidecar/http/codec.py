"""Chooses the codec of a connection: the only module that knows which HTTP versions are supported.

Both sides support HTTP/1 only. A client that sends the preface of HTTP/2 (RFC 9113 3.4) gets a 400 from the
codec of HTTP/1; ALPN offers only what the configuration lists; a cluster that requires HTTP/2 is refused
where its pool dials.
"""

from __future__ import annotations

from sidecar.http.connection_manager import ManagedConnection, ServerCodec
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.h1.server import Http1ServerConnection
from sidecar.upstream.connection import ClientConnection


def server_codec(connection: ManagedConnection) -> ServerCodec:
    """Returns the codec of an accepted connection. `connection.downstream.alpn` is the protocol that ALPN
    chose (RFC 7301), empty if none."""
    return Http1ServerConnection(connection)


def client_codec(alpn: str) -> ClientConnection:
    """Returns the codec of a connection to a host. `alpn` is the protocol that the host chose; empty if
    none."""
    del alpn
    return Http1ClientConnection()
