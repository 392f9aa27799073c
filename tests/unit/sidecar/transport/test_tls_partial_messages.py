"""TLS messages that arrive in part: writes and ends wait for the rest."""

from __future__ import annotations

import ssl
from contextlib import suppress

from sidecar.transport.tls import TlsTransport
from tests.support.tls_connections import (
    AUTHORITY,
    Application,
    Peer,
    Raw,
    contexts,
)

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


async def test_data_written_within_a_message_of_tls_waits_for_its_end() -> None:
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
