"""The peer is the server side of the library `h2`."""

from __future__ import annotations

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, PingAckReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes

from sidecar.grpc.errors import Http2Error
from sidecar.grpc.http2 import WINDOW, Http2Exchange
from sidecar.http.headers import Headers

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/s/M"), (b":authority", b"a")]
HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK = [(b"grpc-status", b"0")]


class Server:
    """Both sides, and all that either was told."""

    def __init__(self, **settings: int) -> None:
        self.told: list[object] = []
        self.received = b""
        self.events: list[object] = []
        self.client = Http2Exchange(REQUEST, self)
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.exchange()
        self.h2.update_settings({SettingCodes[name]: value for name, value in settings.items()})
        self.exchange()

    def exchange(self) -> None:
        """Until neither side has more to send."""
        while True:
            to_server, to_client = self.client.take_output(), self.h2.data_to_send()
            if not to_server and not to_client:
                return
            self.client.receive(to_client)
            for event in self.h2.receive_data(to_server):
                self.events.append(event)
                if isinstance(event, DataReceived):
                    self.received += event.data

    def head(self, status: int, headers: Headers, ended: bool) -> None:
        self.told.append(("head", status, ended))

    def data(self, data: bytes) -> None:
        self.told.append(("data", len(data)))

    def trailers(self, headers: Headers) -> None:
        self.told.append(("trailers", headers))

    def end(self) -> None:
        self.told.append("end")

    def reset(self, code: int) -> None:
        self.told.append(("reset", code))

    def draining(self) -> None:
        self.told.append("draining")

    def going_away(self, code: int, reason: bytes) -> None:
        self.told.append(("going away", code, reason))


def test_exchange_with_trailers() -> None:
    server = Server()
    server.client.send(b"request", end=True)
    server.exchange()
    kinds = {type(event) for event in server.events}
    assert {RequestReceived, StreamEnded} <= kinds
    assert server.received == b"request"
    server.h2.send_headers(1, [(b":status", b"100")])
    server.h2.send_headers(1, HEAD)
    server.h2.send_data(1, b"response", pad_length=9)
    server.h2.send_headers(1, OK, end_stream=True)
    server.exchange()
    assert server.told == [("head", 200, False), ("data", 8), ("trailers", OK)]


def test_server_is_sent_no_more_than_it_has_room_for() -> None:
    server = Server(INITIAL_WINDOW_SIZE=10)
    server.client.send(b"0123456789abcdef", end=True)
    server.exchange()
    assert server.received == b"0123456789"
    server.h2.increment_flow_control_window(3, 1)
    server.exchange()
    assert server.received == b"0123456789abc"
    server.h2.increment_flow_control_window(30, 1)
    server.exchange()
    assert server.received == b"0123456789abcdef"


def test_server_may_send_one_window_until_it_is_granted_again() -> None:
    server = Server()
    server.h2.send_headers(1, HEAD)

    def send_all() -> int:
        sent = 0
        while room := min(server.h2.local_flow_control_window(1), 16384):
            server.h2.send_data(1, bytes(room))
            sent += room
            server.exchange()
        return sent

    assert send_all() == WINDOW
    server.client.grant(WINDOW)
    server.exchange()
    assert send_all() == WINDOW


def test_ping_is_answered_and_sent() -> None:
    server = Server()
    server.h2.ping(b"12345678")
    server.client.ping()
    server.exchange()
    assert any(isinstance(event, PingAckReceived) for event in server.events)


def test_close_resets_the_stream() -> None:
    server = Server()
    server.client.close()
    for event in server.h2.receive_data(server.client.take_output()):
        server.events.append(event)
    assert any(isinstance(event, StreamReset) and event.error_code == 8 for event in server.events)


def test_reset_by_the_server() -> None:
    server = Server()
    server.h2.reset_stream(1, 11)
    server.exchange()
    assert server.told == [("reset", 11)]


def test_exchange_continues_after_a_graceful_goaway() -> None:
    server = Server()
    server.client.receive(goaway(last=2**31 - 1, code=0))
    server.h2.send_headers(1, HEAD)
    server.h2.send_headers(1, OK, end_stream=True)
    server.exchange()
    assert server.told == ["draining", ("head", 200, False), ("trailers", OK)]


@pytest.mark.parametrize(("last", "code"), [(0, 0), (1, 11)])
def test_goaway_with_an_error_or_before_the_request_ends_the_exchange(last: int, code: int) -> None:
    server = Server()
    server.client.receive(goaway(last, code, b"too_many_pings"))
    assert server.told == [("going away", code, b"too_many_pings")]


def goaway(last: int, code: int, reason: bytes = b"") -> bytes:
    payload = last.to_bytes(4, "big") + code.to_bytes(4, "big") + reason
    return len(payload).to_bytes(3, "big") + b"\x07\0" + bytes(4) + payload


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\1\1\4\0\0\0\1\xff",  # invalid HPACK
        b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\1\0\0\0\0\0\3x",  # DATA of another stream
        b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0" + bytes(4),  # WINDOW_UPDATE by nothing
        b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\5\x05\4\0\0\0\1\0\0\0\2\x82",  # PUSH_PROMISE
        b"\0\x40\1\0\0\0\0\0\1",  # a frame of 16385 bytes
    ],
)
def test_invalid_bytes_are_an_error(data: bytes) -> None:
    told = Server()
    client = Http2Exchange(REQUEST, told)
    with pytest.raises(Http2Error):
        client.receive(data)
