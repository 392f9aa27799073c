from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest
import trustme

from sidecar.transport.tls import TlsTransport
from tests.support.http1 import settle

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


class Application(asyncio.Protocol):
    """Notes what it is told. ``keeps_open``: what it answers to the peer's end."""

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
    """A TCP transport that keeps what is written until `take`."""

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
    """The other end: an SSL object that is fed what the transport writes."""

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


@VERSIONS
@pytest.mark.parametrize("server_side", [True, False])
async def test_bytes_pass_both_ways(version: ssl.TLSVersion, server_side: bool) -> None:
    connection = Connection(version, server_side=server_side)
    await connection.transport.established()
    connection.peer.send(b"question")
    assert connection.take_events() == [b"question"]
    large = bytes(100_000)
    connection.transport.write(large)
    assert connection.peer.read() == [large]


@VERSIONS
@pytest.mark.parametrize("server_side", [True, False])
async def test_peer_that_has_ended_still_gets_an_answer(version: ssl.TLSVersion, server_side: bool) -> None:
    connection = Connection(version, server_side=server_side)
    connection.peer.send(b"question")
    connection.peer.end()
    assert connection.take_events() == [b"question", "eof"]
    connection.transport.write(b"answer")
    assert connection.peer.read() == [b"answer"]
    connection.transport.write_eof()
    assert connection.peer.read() == [b"", "eof"]
    assert connection.raw.ended == ""
    connection.transport.close()
    assert connection.raw.ended == "closed"
    assert connection.raw.take() == b"", "one close_notify is enough"


@VERSIONS
@pytest.mark.parametrize("server_side", [True, False])
async def test_peer_goes_on_after_our_end(version: ssl.TLSVersion, server_side: bool) -> None:
    connection = Connection(version, server_side=server_side)
    connection.transport.write(b"question")
    connection.transport.write_eof()
    assert connection.peer.read() == [b"question", "eof"]
    connection.peer.send(b"answer")
    connection.peer.end()
    assert connection.take_events() == [b"answer", "eof"]
    connection.transport.write(b"too late")
    assert connection.raw.take() == b""


async def test_fin_without_a_close_notify_is_an_end_too() -> None:
    connection = Connection()
    connection.peer.send(b"question")
    assert connection.transport.eof_received() is True
    assert connection.take_events() == [b"question", "eof"]
    connection.transport.write(b"answer")
    assert connection.peer.read() == [b"answer"]


async def test_fin_after_a_close_notify_is_no_second_end() -> None:
    connection = Connection()
    connection.peer.end()
    assert connection.transport.eof_received() is True
    assert connection.take_events() == ["eof"]


async def test_application_that_does_not_want_half_a_connection_closes_it() -> None:
    connection = Connection(keeps_open=False)
    connection.peer.end()
    assert connection.peer.read() == [b"", "eof"]
    assert connection.raw.ended == "closed"


async def test_what_came_while_reading_was_paused_is_delivered_before_the_end() -> None:
    connection = Connection()
    connection.transport.pause_reading()
    assert not connection.raw.reading
    connection.peer.send(b"what one read ")
    connection.peer.send(b"had given")
    connection.peer.end()
    connection.transport.eof_received()
    assert connection.take_events() == []
    connection.transport.write(b"meanwhile")
    connection.transport.write_eof()
    assert connection.peer.read() == [b"meanwhile", "eof"]
    connection.transport.resume_reading()
    await settle()
    assert connection.take_events() == [b"what one read had given", "eof"]


async def test_application_that_fails_while_it_catches_up_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = Connection()
    connection.transport.pause_reading()
    connection.peer.send(b"what it cannot bear")

    def fail(data: bytes) -> None:
        raise RuntimeError("a fault of the application")

    connection.application.data_received = fail  # type: ignore[method-assign]
    connection.transport.resume_reading()
    await settle()
    assert connection.raw.ended == "aborted"
    assert "a fault of the application" in caplog.text


async def test_application_that_fails_when_it_is_connected_fails_the_handshake() -> None:
    server, client = contexts(ssl.TLSVersion.TLSv1_3)
    raw, application = Raw(), Application()

    def fail(transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("a fault of the application")

    application.connection_made = fail  # type: ignore[method-assign]
    transport = TlsTransport(server, lambda: application, server_side=True)
    peer = Peer(client, transport, raw, server=False)
    transport.connection_made(raw)
    with pytest.raises(RuntimeError):  # by which the TCP transport ends
        peer.shake_hands()
    transport.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await transport.established()


@pytest.mark.parametrize("size", [5, 100_000])
async def test_what_comes_with_the_end_of_the_handshake_comes_after_connection_made(size: int) -> None:
    server, client = contexts(ssl.TLSVersion.TLSv1_3)
    raw, application = Raw(), Application()
    transport = TlsTransport(server, lambda: application, server_side=True)
    peer = Peer(client, transport, raw, server=False)
    transport.connection_made(raw)
    with suppress(ssl.SSLWantReadError):
        peer.ssl.do_handshake()
    peer.send()
    peer.incoming.write(raw.take())
    peer.ssl.do_handshake()
    peer.ssl.write(bytes(size))
    peer.end()
    first, *pieces, last = application.events
    assert (first, last) == ("made", "eof")
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == bytes(size)


async def test_close_sends_what_was_written_and_a_close_notify() -> None:
    connection = Connection()
    connection.transport.write(b"the last word")
    connection.transport.close()
    assert connection.raw.ended == "closed"
    assert connection.peer.read() == [b"the last word", "eof"]
    connection.transport.connection_lost(None)
    assert connection.take_events() == [None]


async def test_abort_sends_no_close_notify() -> None:
    connection = Connection()
    connection.transport.abort()
    assert connection.raw.ended == "aborted"
    assert connection.raw.take() == b""


async def test_reset_is_told_to_the_application() -> None:
    connection = Connection()
    error = ConnectionResetError()
    connection.transport.connection_lost(error)
    assert connection.take_events() == [error]
    connection.transport.write(b"nobody is there")
    assert connection.raw.take() == b""


async def test_garbage_ends_the_connection_with_an_alert() -> None:
    connection = Connection()
    connection.transport.data_received(b"garbage that is no record at all")
    assert connection.raw.ended == "closed"
    assert connection.raw.written[:1] != b"", "an alert says why"
    connection.transport.connection_lost(None)
    (error,) = connection.take_events()
    assert isinstance(error, ssl.SSLError)


async def test_garbage_does_not_wait_for_a_peer_that_takes_nothing() -> None:
    connection = Connection()
    connection.transport.write(b"not taken")
    connection.transport.data_received(b"garbage that is no record at all")
    assert connection.raw.ended == "aborted"


async def test_slow_peer_is_the_applications_to_wait_for() -> None:
    connection = Connection()
    connection.transport.write(b"x" * 1000)
    assert connection.transport.get_write_buffer_size() > 1000
    connection.transport.pause_writing()
    connection.transport.resume_writing()
    assert connection.take_events() == ["pause", "resume"]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_handshake_that_is_none_fails(data: bytes) -> None:
    server, _ = contexts(ssl.TLSVersion.TLSv1_3)
    raw, application = Raw(), Application()
    transport = TlsTransport(server, lambda: application, server_side=True)
    transport.connection_made(raw)
    transport.data_received(data)
    with pytest.raises(ssl.SSLError):
        await transport.established()
    assert raw.ended == "closed"
    transport.connection_lost(None)
    assert application.events == []


@pytest.mark.parametrize("by_fin", [True, False])
async def test_peer_that_leaves_within_the_handshake_fails_it(by_fin: bool) -> None:
    server, _ = contexts(ssl.TLSVersion.TLSv1_3)
    raw, application = Raw(), Application()
    transport = TlsTransport(server, lambda: application, server_side=True)
    transport.connection_made(raw)
    if by_fin:
        assert transport.eof_received() is False
    transport.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await transport.established()
    assert application.events == []


async def test_server_that_is_not_trusted_is_told_so() -> None:
    server, _ = contexts(ssl.TLSVersion.TLSv1_3)
    raw, application = Raw(), Application()
    distrustful = ssl.create_default_context()
    transport = TlsTransport(distrustful, lambda: application, server_side=False, server_hostname="peer.test")
    peer = Peer(server, transport, raw, server=True)
    transport.connection_made(raw)
    peer.incoming.write(raw.take())
    with suppress(ssl.SSLWantReadError):
        peer.ssl.do_handshake()
    peer.send()
    with pytest.raises(ssl.SSLCertVerificationError):
        await transport.established()
    peer.incoming.write(raw.take())
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        peer.ssl.do_handshake()


async def test_what_is_sent_unasked_is_bounded() -> None:
    """OpenSSL answers each KeyUpdate; a peer that takes none of the answers must not fill the memory."""

    class Answering(Session):
        """Has something to say to whatever comes, once the handshake is done."""

        def read(self, size: int) -> bytes:
            self.outgoing.write(bytes(1000))
            raise ssl.SSLWantReadError

    connection = Connection(session=Answering)
    connection.transport.write(b"not taken")
    answers_bytes = 0
    while not connection.transport.is_closing():
        connection.transport.data_received(b"one more")
        answers_bytes += 1000
        assert answers_bytes < 100_000
    assert connection.raw.ended == "aborted"


# Its client's certificate does not fit into one record, and so neither does a session ticket, which holds it.
LARGE_CERTIFICATE = AUTHORITY.issue_cert(*(f"{number:05d}.{'x' * 50}.test" for number in range(400)))


class HalfATicket:
    """A connection to a server of whose session ticket one record of two has come. Until the other one
    comes, OpenSSL writes nothing."""

    def __init__(self) -> None:
        server, client = contexts(ssl.TLSVersion.TLSv1_3)
        LARGE_CERTIFICATE.configure_cert(client)
        server.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(server)
        self.application, self.raw = Application(), Raw()
        self.transport = TlsTransport(client, lambda: self.application, server_side=False)
        self.peer = Peer(server, self.transport, self.raw, server=True)
        self.transport.connection_made(self.raw)
        self.peer.incoming.write(self.raw.take())
        with suppress(ssl.SSLWantReadError):
            self.peer.ssl.do_handshake()
        self.peer.send()
        self.peer.incoming.write(self.raw.take())
        self.peer.ssl.do_handshake()
        tickets = self.peer.outgoing.read()
        first_record_bytes = 5 + int.from_bytes(tickets[3:5], "big")
        self.rest = tickets[first_record_bytes:]
        self.transport.data_received(tickets[:first_record_bytes])
        assert self.application.events == ["made"]
        self.application.events.clear()


async def test_what_is_written_within_a_message_of_tls_waits_for_its_end() -> None:
    connection = HalfATicket()
    connection.transport.write(b"question, ")
    connection.transport.write(bytearray(b"continued"))
    assert connection.raw.take() == b""
    assert connection.transport.get_write_buffer_size() == len(b"question, continued")
    connection.transport.data_received(connection.rest[:100])
    assert connection.application.events == ["pause"]
    connection.transport.data_received(connection.rest[100:])
    assert connection.peer.read() == [b"question, continued"]
    assert connection.transport.get_write_buffer_size() == 0
    connection.peer.send(b"answer")
    assert connection.application.events == ["pause", "resume", b"answer"]


async def test_writing_paused_within_a_message_of_tls_stays_so_for_a_peer_that_is_slow_too() -> None:
    connection = HalfATicket()
    connection.transport.write(b"question")
    connection.transport.pause_writing()
    connection.transport.data_received(connection.rest)
    assert connection.application.events == ["pause"]
    connection.transport.resume_writing()
    assert connection.application.events == ["pause", "resume"]


async def test_end_within_a_message_of_tls_waits_for_its_end() -> None:
    connection = HalfATicket()
    connection.transport.write_eof()
    assert connection.raw.take() == b""
    connection.transport.data_received(connection.rest)
    assert connection.peer.read() == [b"", "eof"]
    connection.peer.send(b"answer")
    assert connection.application.events == [b"answer"]


async def test_close_within_a_message_of_tls_waits_for_its_end() -> None:
    connection = HalfATicket()
    connection.transport.pause_reading()
    connection.transport.write(b"the last word")
    connection.transport.close()
    assert connection.transport.is_closing()
    assert connection.raw.ended == ""
    assert connection.raw.reading
    connection.transport.data_received(connection.rest)
    assert connection.peer.read() == [b"the last word", "eof"]
    assert connection.raw.ended == "closed"


async def test_message_of_tls_that_is_cut_breaks_the_connection() -> None:
    connection = HalfATicket()
    connection.transport.write(b"the last word")
    assert connection.transport.eof_received() is False
    connection.transport.connection_lost(None)
    assert isinstance(connection.application.events[-1], ConnectionResetError)


async def test_abort_waits_for_no_message_of_tls() -> None:
    connection = HalfATicket()
    connection.transport.write(b"the last word")
    connection.transport.abort()
    connection.transport.data_received(connection.rest)
    assert connection.raw.take() == b""


class Gauge(Session):
    """Notes the most that its two `MemoryBIO` have held."""

    most_incoming_bytes = most_outgoing_bytes = 0

    def read(self, size: int) -> bytes:
        self.most_incoming_bytes = max(self.most_incoming_bytes, self.incoming.pending)
        return self.ssl.read(size)

    def write(self, data: bytes | memoryview) -> int:
        written = self.ssl.write(data)
        self.most_outgoing_bytes = max(self.most_outgoing_bytes, self.outgoing.pending)
        return written


async def test_large_transfer_passes_in_pieces() -> None:
    """A `MemoryBIO` keeps the memory of the most that it has held, for as long as its connection lasts."""
    connection = Connection(session=Gauge)
    gauge = connection.transport.get_extra_info("ssl_object")
    large = bytes(1024 * 1024)
    connection.peer.send(large)
    assert connection.take_events() == [large]
    connection.transport.write(large)
    assert connection.peer.read() == [large]
    assert 0 < gauge.most_incoming_bytes < 64 * 1024
    assert 0 < gauge.most_outgoing_bytes < 64 * 1024
