"""The choice of the HTTP version over real sockets: of a listener's connections, and of those to hosts."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.tls import DownstreamTls, UpstreamTls
from tests.support.clusters import static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.flaky_upstream import FlakyUpstream, flaky_upstream
from tests.support.http2_peer import http2_client, http2_upstream
from tests.support.identities import REVIEWS, TestTrustDomain, mesh_parameters
from tests.support.listening import read_to_end
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, RunningStack, running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # RFC 9113 3.4: with SETTINGS
GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
TRUST_DOMAIN = TestTrustDomain(REVIEWS)
MANAGER = HttpConnectionManager(
    stat_prefix=NAME,
    http_filters=(ROUTER,),
    route_config=configuration(virtual_host(route(prefix(), to("up")))),
)


def server_tls(*alpn: str) -> DownstreamTls:
    return DownstreamTls(parameters=dataclasses.replace(mesh_parameters(), alpn_protocols=alpn))


def offering(*alpn: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


async def talk(port: int, *pieces: bytes, tls: ssl.SSLContext | None = None) -> tuple[str | None, bytes]:
    """Sends the pieces one after the other. Returns the negotiated ALPN protocol and all of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)  # uvloop joins the writes of one turn
    session = writer.get_extra_info("ssl_object")
    answer = await read_to_end(reader)
    writer.close()
    return session and session.selected_alpn_protocol(), answer


# A listener.


@asynccontextmanager
async def serving(
    tls: DownstreamTls | None = None, codec_type: CodecType = CodecType.AUTO
) -> AsyncIterator[RunningStack]:
    async with (
        flaky_upstream("a") as upstream,
        running_stack(
            dataclasses.replace(MANAGER, codec_type=codec_type),
            static_cluster(upstream.endpoint),
            tls=tls,
            svid=TRUST_DOMAIN.svid().pem(),
        ) as stack,
    ):
        yield stack


@pytest.mark.parametrize("pieces", [(PREFACE,), (PREFACE[:3], PREFACE[3:20], PREFACE[20:])])
async def test_a_listener_for_http1_answers_the_preface_with_400(pieces: tuple[bytes, ...]) -> None:
    async with serving(codec_type=CodecType.HTTP1) as stack:
        _, answer = await talk(stack.port, *pieces)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        stats = stack.stats.http(NAME)
        assert (stats.downstream_cx_total, stats.downstream_cx_protocol_error) == (1, 1)


@pytest.mark.parametrize("codec_type", [CodecType.AUTO, CodecType.HTTP2])
async def test_a_client_that_knows_that_the_listener_speaks_http2_is_served(codec_type: CodecType) -> None:
    async with serving(codec_type=codec_type) as stack, await http2_client(stack.port) as client:
        assert (await client.ask()).body == b"a"
        stats = stack.stats.http(NAME)
        assert (stats.downstream_cx_http2_total, stats.downstream_rq_http2_total) == (1, 1)


async def test_a_client_of_http1_gets_a_goaway_from_a_listener_for_http2() -> None:
    async with serving(codec_type=CodecType.HTTP2) as stack:
        _, answer = await talk(stack.port, GET)
        assert b"HTTP/1.1" not in answer
        assert stack.stats.http(NAME).downstream_cx_protocol_error == 1


@pytest.mark.parametrize("codec_type", [CodecType.AUTO, CodecType.HTTP1])
@pytest.mark.parametrize("pieces", [(GET + LAST,), (GET[:1], GET[1:9], GET[9:], LAST)])
async def test_requests_in_http1_are_served(codec_type: CodecType, pieces: tuple[bytes, ...]) -> None:
    async with serving(codec_type=codec_type) as stack:
        _, answer = await talk(stack.port, *pieces)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert stack.stats.http(NAME).downstream_cx_total == 1


@pytest.mark.parametrize("offered", [("http/1.1",), ("h2", "http/1.1"), ("acme",)])
async def test_a_client_that_can_speak_http1_over_tls_is_served(offered: tuple[str, ...]) -> None:
    async with serving(server_tls("http/1.1")) as stack:
        alpn, answer = await talk(stack.port, LAST, tls=offering(*offered))
        assert alpn == ("http/1.1" if "http/1.1" in offered else None)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_client_that_offers_http2_over_tls_is_served() -> None:
    async with (
        serving(server_tls("h2", "istio", "http/1.1")) as stack,
        await http2_client(stack.port, offering("h2", "http/1.1")) as client,
    ):
        assert (await client.ask()).body == b"a"


# Hosts.


@asynccontextmanager
async def sending(codec_type: CodecType, alpn: str) -> AsyncIterator[tuple[RunningStack, FlakyUpstream]]:
    """A proxy that offers h2 and http/1.1 to a host that speaks TLS and chooses `alpn`, empty for none."""
    context = TRUST_DOMAIN.contexts().server(server_tls(*filter(None, (alpn,))))
    offered = dataclasses.replace(mesh_parameters(), alpn_protocols=("h2", "http/1.1"))
    async with flaky_upstream("a", tls=context) as upstream:
        cluster = static_cluster(
            upstream.endpoint, codec_type=codec_type, tls=UpstreamTls(parameters=offered, sni="reviews")
        )
        async with running_stack(MANAGER, cluster, svid=TRUST_DOMAIN.svid().pem()) as stack:
            yield stack, upstream


@pytest.mark.parametrize(
    ("codec_type", "alpn"),
    [
        (CodecType.AUTO, ""),
        (CodecType.AUTO, "http/1.1"),
        (CodecType.HTTP1, ""),
        (CodecType.HTTP1, "h2"),  # as in Envoy, the configuration decides
    ],
)
async def test_a_host_gets_http1(codec_type: CodecType, alpn: str) -> None:
    async with sending(codec_type, alpn) as (stack, upstream):
        _, answer = await talk(stack.port, GET + LAST)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert upstream.connections_total == 1


@pytest.mark.parametrize("codec_type", [CodecType.AUTO, CodecType.HTTP2])
async def test_a_host_that_chooses_http2_gets_it(codec_type: CodecType) -> None:
    context = TRUST_DOMAIN.contexts().server(server_tls("h2"))
    async with http2_upstream(tls=context) as upstream:
        parameters = dataclasses.replace(mesh_parameters(), alpn_protocols=())
        tls = UpstreamTls(parameters=parameters, sni="reviews")
        cluster = static_cluster(upstream.endpoint, codec_type=codec_type, tls=tls)
        async with running_stack(MANAGER, cluster, svid=TRUST_DOMAIN.svid().pem()) as stack:
            _, answer = await talk(stack.port, GET + LAST)
            assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
            assert len(upstream.peers) == 1
            assert stack.stats.cluster("up").upstream_cx_http2_total == 1


async def test_a_cluster_that_follows_the_client_speaks_both_versions() -> None:
    async with http2_upstream() as second, flaky_upstream("a") as first:
        for upstream, version in ((first, "http1"), (second, "http2")):
            cluster = static_cluster(upstream.endpoint, codec_type=CodecType.DOWNSTREAM)
            async with running_stack(MANAGER, cluster) as stack:
                if version == "http1":
                    _, answer = await talk(stack.port, LAST)
                    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                else:
                    async with await http2_client(stack.port) as client:
                        assert (await client.ask()).status == 200
