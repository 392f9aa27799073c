"""TLS handshakes in memory, and certificates for them."""

from __future__ import annotations

import ssl
from contextlib import suppress

import trustme

from sidecar.config.tls import DataSource, TlsCertificate

AUTHORITY = trustme.CA()


def certificate_for(*names: str) -> TlsCertificate:
    issued = AUTHORITY.issue_cert(*names)
    return TlsCertificate(
        certificate_chain=DataSource(inline=b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        private_key=DataSource(inline=issued.private_key_pem.bytes()),
    )


def handshake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory: the server's side, and the client's. The client offers the session."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name, session=session),
    )
    for _ in range(4):
        for side in reversed(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides


def session_of(server: ssl.SSLObject, client: ssl.SSLObject) -> ssl.SSLSession:
    """The session of a client that has read the server's first data, from a connection that ends in order."""
    server.write(b"x")
    client.read(1)
    session = client.session
    assert session is not None
    with suppress(ssl.SSLWantReadError):
        server.unwrap()  # a server forgets the session of a connection that breaks
    return session
