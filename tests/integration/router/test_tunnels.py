"""Tunnels through the router, and connections to original destinations, over real sockets."""

from __future__ import annotations

import asyncio

from sidecar.config.cluster import (
    ClusterConfig,
    Discovery,
)
from sidecar.config.route import (
    PathMatchKind,
    RouteMatch,
)
from sidecar.errors import UpstreamResetError
from sidecar.http.body import BodyStream
from tests.support.bodies import read_all
from tests.support.clusters import at_port, static_cluster
from tests.support.flaky_upstream import Exchange, FlakyUpstream
from tests.support.listening import eventually
from tests.support.requests import make_request
from tests.support.routed_proxy import SWITCH, Start, retries
from tests.support.routes import route, to


class TestTunnels:
    async def test_a_websocket_passes_both_ways(self, start: Start, upstream: FlakyUpstream) -> None:
        async def upgrade(exchange: Exchange) -> None:
            exchange.writer.write(SWITCH + b"hello ")

        upstream.behave = upgrade
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        request = make_request(body=BodyStream())
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        assert (response.status, response.upgraded) == (101, True)
        assert not isinstance(response.body, bytes)
        assert await response.body.read() == b"hello "
        response.body.close()

    async def test_an_upstream_that_breaks_a_websocket_takes_no_more_of_the_clients_bytes(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def upgrade(exchange: Exchange) -> None:
            exchange.writer.write(SWITCH)
            await exchange.writer.drain()
            exchange.writer.transport.abort()

        upstream.behave = upgrade
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"))
        body = BodyStream()
        request = make_request(body=body)
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        body.feed(bytes(1_000_000))
        await asyncio.wait_for(body.left(), 5)
        assert not body.ended
        assert not isinstance(response.body, bytes)
        response.body.close()

    async def test_an_upgrade_is_tried_again_until_it_is_a_tunnel(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        async def refuse_once(exchange: Exchange) -> None:
            if len(upstream.exchanges) == 1:
                exchange.answer(503)
            else:
                exchange.writer.write(SWITCH)

        upstream.behave = refuse_once
        proxy = await start(static_cluster(upstream.endpoint))
        proxy.use(to("up"), retry_policy=retries("5xx"))
        request = make_request(body=BodyStream())
        request.upgrade = b"websocket"
        response = await proxy.send(request)
        assert (response.status, response.upgraded) == (101, True)
        assert not isinstance(response.body, bytes)
        response.body.close()

    async def test_connect_is_terminated_and_its_payload_goes_out_as_tcp(self, start: Start) -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read(100)).upper())
            await reader.read()  # until the client's end of it
            writer.write(b"!")
            writer.close()

        server = await asyncio.start_server(shout, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            proxy = await start(static_cluster(at_port(port)))
            connect = RouteMatch(path_kind=PathMatchKind.CONNECT)
            proxy.use(route(connect, to("up", terminate_connect=True)))
            body = BodyStream()
            request = make_request(b"", method=b"CONNECT", authority=b"any:443", body=body)
            request.upgrade = b"connect"
            response = await proxy.send(request)
            assert (response.status, response.upgraded) == (200, True)
            body.feed(b"abc")
            assert not isinstance(response.body, bytes)
            assert await response.body.read() == b"ABC"
            body.feed_end()
            assert await read_all(response.body) == b"!"
            stats = proxy.clusters.get("up").stats
            await eventually(lambda: stats.upstream_cx_active == 0)
            assert proxy.clusters.get("up").breaker.connections.count == 0

    async def test_a_client_that_leaves_its_tunnel_closes_the_other_end(self, start: Start) -> None:
        gone = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()
                gone.set()

        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        async with server:
            proxy = await start(static_cluster(at_port(server.sockets[0].getsockname()[1])))
            connect = RouteMatch(path_kind=PathMatchKind.CONNECT)
            proxy.use(route(connect, to("up", terminate_connect=True)))
            body = BodyStream()
            request = make_request(b"", method=b"CONNECT", authority=b"any:443", body=body)
            request.upgrade = b"connect"
            await proxy.send(request)
            body.fail(UpstreamResetError("the client is gone"))
            await asyncio.wait_for(gone.wait(), 5)


class TestOriginalDestination:
    PASSTHROUGH = ClusterConfig(name="PassthroughCluster", discovery=Discovery.ORIGINAL_DST)

    async def test_the_authority_of_a_proxy_request_is_where_it_goes(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(self.PASSTHROUGH)
        proxy.use(to("PassthroughCluster"))
        authority = str(upstream.endpoint.address).encode()
        assert await proxy.ask(make_request(authority=authority)) == (200, b"a")
        assert await proxy.ask(make_request(authority=authority)) == (200, b"a")
        assert upstream.connections_total == 1
        assert len(proxy.clusters.get("PassthroughCluster").hosts) == 1

    async def test_a_request_back_into_this_proxy_is_refused(
        self, start: Start, upstream: FlakyUpstream
    ) -> None:
        proxy = await start(
            self.PASSTHROUGH, is_own_listener=lambda address: address == upstream.endpoint.address
        )
        proxy.use(to("PassthroughCluster"))
        request = make_request(authority=str(upstream.endpoint.address).encode())
        assert (await proxy.send(request)).status == 503
        assert request.info.flags == "UH"
        assert "loop" in request.info.upstream_failure
        assert upstream.connections_total == 0
