"""One end of a TLS connection whose transport and peer are objects of the test."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trustme

from sidecar.transport.tls import TlsTransport

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class Application(asyncio.Protocol):
    """Records its calls. ``keeps_open``: its answer to the peer's end."""

    def __init__(self, *, keeps_open: bool = True) -> None:
        self.keeps_open = keeps_open
        self.events: list[object] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


class Raw(asyncio.Transport):
    """A TCP transport that keeps written bytes until `take`."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = ""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Peer:
    """The other end: an SSL object that gets the bytes that the transport writes."""

    def __init__(self, context: ssl.SSLContext, transport: TlsTransport, raw: Raw, *, server: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=server)
        self._transport = transport
        self._raw = raw

    def shake_hands(self) -> None:
        for _ in range(4):
            self.incoming.write(self._raw.take())
            with suppress(ssl.SSLWantReadError):
                self.ssl.do_handshake()
            self.send()

    def send(self, data: bytes = b"") -> None:
        if data:
            self.ssl.write(data)
        records = self.outgoing.read()
        if records:
            self._transport.data_received(records)

    def end(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()
        self.send()

    def read(self) -> list[object]:
        """What has arrived: the bytes, and "eof" where a close_notify has."""
        self.incoming.write(self._raw.take())
        data = b""
        try:
            while True:
                piece = self.ssl.read(65536)
                if not piece:
                    return [data, "eof"]
                data += piece
        except ssl.SSLWantReadError:
            return [data]
        except ssl.SSLZeroReturnError:
            return [data, "eof"]


AUTHORITY = trustme.CA()


CERTIFICATE = AUTHORITY.issue_cert("peer.test")


def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    CERTIFICATE.configure_cert(server)
    AUTHORITY.configure_trust(client)
    client.check_hostname = False
    for context in (server, client):
        context.minimum_version = context.maximum_version = version
    return server, client


class Session:
    """An `SSLObject` between the two `MemoryBIO` of a transport, for tests to change."""

    def __init__(self, session: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.ssl, self.incoming, self.outgoing = session, incoming, outgoing

    def __getattr__(self, name: str) -> object:
        return getattr(self.ssl, name)


class SessionContext:
    """An `SSLContext` whose sessions are of the test's own kind."""

    def __init__(self, context: ssl.SSLContext, session: type[Session]) -> None:
        self.context, self.session = context, session

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> Session:
        return self.session(self.context.wrap_bio(incoming, outgoing, **options), incoming, outgoing)


class Connection:
    """A transport whose handshake is done, from one side or the other."""

    def __init__(
        self,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        *,
        server_side: bool = True,
        keeps_open: bool = True,
        session: type[Session] = Session,
    ) -> None:
        server, client = contexts(version)
        self.application = Application(keeps_open=keeps_open)
        self.raw = Raw()
        ours, theirs = (server, client) if server_side else (client, server)
        context: Any = SessionContext(ours, session)
        self.transport = TlsTransport(context, lambda: self.application, server_side=server_side)
        self.peer = Peer(theirs, self.transport, self.raw, server=not server_side)
        self.transport.connection_made(self.raw)
        self.peer.shake_hands()
        self.peer.read()
        assert self.application.events == ["made"]
        self.application.events.clear()

    def take_events(self) -> list[object]:
        events, self.application.events = self.application.events, []
        return events
