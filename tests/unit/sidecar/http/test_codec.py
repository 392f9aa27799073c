from __future__ import annotations

import asyncio

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.http.codec import (
    CLIENT_CODECS,
    SERVER_CODECS,
    HttpVersion,
    client_codec,
    client_version,
    server_version,
)
from sidecar.http.connection_manager import ManagedConnection
from sidecar.http.message import Request, Response
from sidecar.observability.stats import ClusterStats
from sidecar.timers import Timers
from sidecar.upstream.connection import ClientEnvironment
from tests.support.http1 import Server, client_with, response
from tests.support.upstreams import FakeConnection
from tests.support.virtual_time import VirtualTime

AUTO, HTTP1, HTTP2 = CodecType.AUTO, CodecType.HTTP1, CodecType.HTTP2
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
UNDECIDED = None


async def hello(request: Request) -> Response:
    return response(b"hello")


class FakeHttp2:
    """A `ServerCodec` that records its calls."""

    def __init__(self, connection: ManagedConnection) -> None:
        self.connection = connection
        self.received = b""
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.connection.opened()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.connection.received(len(data))

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")
        self.connection.lost()

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def go_away(self) -> None:
        self.calls.append("go away")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def http2_codecs(monkeypatch: pytest.MonkeyPatch) -> list[FakeHttp2]:
    """HTTP/2 is supported: one row in each table. Returns the codecs of servers that were made."""
    made: list[FakeHttp2] = []

    def make(connection: ManagedConnection) -> FakeHttp2:
        made.append(FakeHttp2(connection))
        return made[-1]

    monkeypatch.setitem(SERVER_CODECS, HttpVersion.HTTP2, make)
    monkeypatch.setitem(CLIENT_CODECS, HttpVersion.HTTP2, lambda client: FakeConnection(capacity=100))
    return made


# The choice.


@pytest.mark.parametrize(
    ("codec_type", "alpn", "first_bytes", "version"),
    [
        (HTTP1, "", b"", HttpVersion.HTTP1),
        (HTTP1, "h2", PREFACE, HttpVersion.HTTP1),
        (HTTP2, "", b"", HttpVersion.HTTP2),
        (HTTP2, "http/1.1", GET, HttpVersion.HTTP2),
        (AUTO, "h2", b"", HttpVersion.HTTP2),
        (AUTO, "h2", GET, HttpVersion.HTTP2),
        (AUTO, "http/1.1", b"", HttpVersion.HTTP1),
        (AUTO, "http/1.1", PREFACE, HttpVersion.HTTP1),
        (AUTO, "istio", b"", HttpVersion.HTTP1),
        (AUTO, "", b"", UNDECIDED),
        (AUTO, "", GET, HttpVersion.HTTP1),
        (AUTO, "", b"\r\n" + PREFACE, HttpVersion.HTTP1),
        (AUTO, "", b"P", UNDECIDED),
        (AUTO, "", b"PO", HttpVersion.HTTP1),
        (AUTO, "", b"PRI * HTTP/1.1\r\n", HttpVersion.HTTP1),
        (AUTO, "", PREFACE, HttpVersion.HTTP2),
        (AUTO, "", PREFACE + b"\0\0\0\4\0\0\0\0\0", HttpVersion.HTTP2),
    ],
)
def test_a_server_follows_its_configuration_then_alpn_then_the_preface(
    codec_type: CodecType, alpn: str, first_bytes: bytes, version: HttpVersion | None
) -> None:
    assert server_version(codec_type, alpn, first_bytes) is version


def test_the_first_line_of_the_preface_decides() -> None:
    found = [server_version(AUTO, "", PREFACE[:size]) for size in range(len(PREFACE) + 1)]
    assert found == [UNDECIDED] * 16 + [HttpVersion.HTTP2] * 9


@pytest.mark.parametrize(
    ("codec_type", "alpn", "version"),
    [
        (HTTP1, "", HttpVersion.HTTP1),
        (HTTP1, "h2", HttpVersion.HTTP1),
        (HTTP2, "", HttpVersion.HTTP2),
        (HTTP2, "http/1.1", HttpVersion.HTTP2),
        (AUTO, "", HttpVersion.HTTP1),
        (AUTO, "http/1.1", HttpVersion.HTTP1),
        (AUTO, "istio", HttpVersion.HTTP1),
        (AUTO, "h2", HttpVersion.HTTP2),
    ],
)
def test_a_client_follows_its_configuration_then_alpn(
    codec_type: CodecType, alpn: str, version: HttpVersion
) -> None:
    assert client_version(codec_type, alpn) is version


# Servers.


@pytest.mark.parametrize("first", [b"", b"P", b"PR"])
async def test_http1_that_begins_like_the_preface_is_served(first: bytes) -> None:
    server = Server(hello)
    request = b"PROPFIND / HTTP/1.1\r\nhost: a\r\n\r\n"
    if first:
        assert await server.exchange(first) == b""
    assert b"200 OK" in await server.exchange(request.removeprefix(first))
    assert b"200 OK" in await server.exchange(request)
    assert server.stats.downstream_cx_rx_bytes_total == 2 * len(request)


async def test_a_part_of_the_preface_is_limited_like_the_head_of_a_request() -> None:
    server = Server(hello, request_headers_timeout_s=5.0)
    assert await server.exchange(PREFACE[:3]) == b""
    server.time.advance(5.0)
    assert b"408 Request Timeout" in await server.exchange(b"")
    assert await server.exchange(PREFACE[3:]) == b"", "the connection has ended"


async def test_an_undecided_connection_closes_after_its_idle_timeout() -> None:
    server = Server(hello, idle_timeout_s=9.0)
    server.time.advance(9.0)
    await server.exchange(b"")
    assert server.transport.closed
    assert (server.stats.downstream_cx_idle_timeout, server.stats.downstream_cx_active) == (1, 0)


async def test_a_connection_that_is_too_old_closes_with_its_next_response() -> None:
    server = Server(hello, max_connection_duration_s=60.0, drain_timeout_s=5.0)
    request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    server.time.advance(59.0)
    assert b"connection: close" not in await server.exchange(request)
    server.time.advance(2.0)
    assert server.stats.downstream_cx_max_duration_reached == 1
    assert b"connection: close" in await server.exchange(request)
    assert server.transport.closed


async def test_an_idle_connection_that_is_too_old_closes_after_the_drain_timeout() -> None:
    server = Server(hello, max_connection_duration_s=60.0, drain_timeout_s=5.0)
    assert b"200 OK" in await server.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    server.time.advance(64.0)
    assert not server.transport.closed
    server.time.advance(2.0)
    await server.exchange(b"")
    assert server.transport.closed
    assert server.stats.downstream_cx_active == 0


@pytest.mark.parametrize("size", [1, 3, 16, 17, 24])
async def test_a_row_of_the_table_adds_the_server_of_a_version(
    http2_codecs: list[FakeHttp2], size: int
) -> None:
    server = Server(hello, idle_timeout_s=9.0)
    for start in range(0, len(PREFACE), size):
        assert await server.exchange(PREFACE[start : start + size]) == b""
    (codec,) = http2_codecs
    assert (codec.received, codec.calls) == (PREFACE, ["made"])
    assert (server.stats.downstream_cx_total, server.stats.downstream_cx_active) == (1, 1)
    assert server.stats.downstream_cx_rx_bytes_total == len(PREFACE)
    server.time.advance(9.0)
    assert not server.transport.closed, "HTTP/1 has left the connection"
    server.manager.drain()
    server.manager.close()
    assert codec.calls == ["made", "go away", "close"]


async def test_a_codec_that_the_preface_chooses_learns_that_the_listener_drains(
    http2_codecs: list[FakeHttp2],
) -> None:
    server = Server(hello)
    server.manager.drain()
    await server.exchange(PREFACE)
    assert [codec.calls for codec in http2_codecs] == [["made", "go away"]]


async def test_alpn_chooses_the_codec_before_the_first_byte(http2_codecs: list[FakeHttp2]) -> None:
    Server(hello, client_with(alpn="h2"))
    Server(hello, codec_type=HTTP2)
    Server(hello, client_with(alpn="http/1.1"))
    assert [codec.calls for codec in http2_codecs] == [["made"], ["made"]]


async def test_a_listener_for_http1_does_not_look_for_the_preface(http2_codecs: list[FakeHttp2]) -> None:
    assert b"400 Bad Request" in await Server(hello, codec_type=HTTP1).exchange(PREFACE)
    assert http2_codecs == []


async def test_an_http1_error_is_not_followed_by_another_codec(http2_codecs: list[FakeHttp2]) -> None:
    server = Server(hello, request_headers_timeout_s=5.0)
    await server.exchange(PREFACE[:3])
    server.time.advance(5.0)
    await server.exchange(PREFACE[3:])
    assert http2_codecs == []


# Clients.


@pytest.mark.parametrize(
    ("codec_type", "alpn"), [(HTTP1, ""), (HTTP1, "http/1.1"), (HTTP1, "h2"), (AUTO, ""), (AUTO, "istio")]
)
async def test_a_host_is_spoken_to_in_http1(codec_type: CodecType, alpn: str) -> None:
    client = ClientEnvironment(stats=ClusterStats(), timers=Timers(VirtualTime()))
    assert client_codec(codec_type, client)(alpn).capacity == 1
    assert client.stats.upstream_cx_http1_total == 1


async def test_a_row_of_the_table_adds_the_client_of_a_version(http2_codecs: list[FakeHttp2]) -> None:
    client = ClientEnvironment(stats=ClusterStats(), timers=Timers(VirtualTime()))
    assert client_codec(HTTP2, client)("").capacity == client_codec(AUTO, client)("h2").capacity == 100
    assert client_codec(AUTO, client)("").capacity == 1
