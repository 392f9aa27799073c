from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

import pytest

from sidecar.transport.tls import TlsTransport
from tests.support.http1 import settle
from tests.support.tls_connections import (
    VERSIONS,
    Application,
    Connection,
    Peer,
    Raw,
    Session,
    contexts,
)


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


async def test_factory_that_raises_ends_the_connection() -> None:
    def refuse() -> asyncio.Protocol:
        raise ValueError("the protocol is not supported")

    server, client = contexts(ssl.TLSVersion.TLSv1_3)
    raw = Raw()
    transport = TlsTransport(client, refuse, server_side=False)
    transport.connection_made(raw)
    Peer(server, transport, raw, server=True).shake_hands()
    with pytest.raises(ValueError, match="not supported"):
        await transport.established()
    assert raw.ended


async def test_fin_without_a_close_notify_is_an_end_too() -> None:
    connection = Connection()
    connection.peer.send(b"question")
    assert connection.transport.eof_received() is True
    assert connection.take_events() == [b"question", "eof"]
    connection.transport.write(b"answer")
    assert connection.peer.read() == [b"answer"]


async def test_fin_after_a_close_notify_is_not_a_second_end() -> None:
    connection = Connection()
    connection.peer.end()
    assert connection.transport.eof_received() is True
    assert connection.take_events() == ["eof"]


async def test_application_that_does_not_want_half_a_connection_closes_it() -> None:
    connection = Connection(keeps_open=False)
    connection.peer.end()
    assert connection.peer.read() == [b"", "eof"]
    assert connection.raw.ended == "closed"


async def test_data_that_arrived_while_reading_was_paused_is_delivered_before_the_end() -> None:
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
async def test_data_with_the_end_of_the_handshake_is_delivered_after_connection_made(size: int) -> None:
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


async def test_close_sends_the_written_data_and_a_close_notify() -> None:
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


async def test_reset_is_reported_to_the_application() -> None:
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
async def test_invalid_handshake_fails(data: bytes) -> None:
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


async def test_untrusted_server_gets_an_alert() -> None:
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


async def test_unrequested_data_is_bounded() -> None:
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


async def test_session_ticket_goes_with_the_first_data() -> None:
    connection = Connection()
    assert connection.raw.take() == b""
    assert connection.peer.ssl.session is not None
    assert not connection.peer.ssl.session.has_ticket
    connection.transport.write(b"answer")
    assert connection.peer.read() == [b"answer"]
    assert connection.peer.ssl.session.has_ticket


async def test_session_ticket_goes_with_the_end_of_a_connection_without_data() -> None:
    connection = Connection()
    connection.transport.close()
    assert connection.peer.read() == [b"", "eof"]
    assert connection.peer.ssl.session is not None
    assert connection.peer.ssl.session.has_ticket


async def test_key_update_is_answered_before_the_first_data() -> None:
    class Answering(Session):
        def read(self, size: int) -> bytes:
            self.outgoing.write(b"an answer")
            return self.ssl.read(size)

    connection = Connection(session=Answering)
    connection.peer.send(b"question")
    assert connection.raw.take().endswith(b"an answer")


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
