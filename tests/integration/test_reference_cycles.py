"""The objects of a connection are freed at its end. If they formed a cycle, only the garbage collector would
free them. At a high rate of connections it would run all the time."""

from __future__ import annotations

import asyncio
import gc
import ssl
from dataclasses import replace

import grpc
import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.tls import UpstreamTls
from tests.interop.grpc.client import TestServiceClient
from tests.interop.grpc.messages import Empty
from tests.interop.grpc.service import serving
from tests.support.clusters import at_port, static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.identities import MESH_CLIENT, MESH_SERVER, RATINGS, REVIEWS, TestTrustDomain
from tests.support.listening import eventually
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import manager_of, running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

REQUEST = b"GET / HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n"
CONNECTIONS = 20
# The client's first bytes choose the version of HTTP.
WITHOUT_ALPN = replace(MESH_CLIENT, parameters=replace(MESH_CLIENT.parameters, alpn_protocols=()))


class Host(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")  # type: ignore[attr-defined]


@pytest.mark.parametrize("tls", [None, MESH_CLIENT, WITHOUT_ALPN], ids=["plain", "mesh", "no ALPN"])
async def test_connections_of_both_sides_leave_no_garbage(tls: UpstreamTls | None) -> None:
    domain = TestTrustDomain()
    context = domain.contexts(RATINGS).client(tls) if tls else None
    server = await asyncio.get_running_loop().create_server(Host, "127.0.0.1", 0)
    host = static_cluster(at_port(server.sockets[0].getsockname()[1]), max_requests_per_connection=1)
    routes = configuration(virtual_host(route(prefix(), to("up"))))
    async with running_stack(
        manager_of(ROUTER, route_config=routes),
        host,
        tls=MESH_SERVER if tls else None,
        svid=domain.svid(REVIEWS).pem(),
    ) as running:
        await ask(running.port, context)
        await running.settle()
        gc.collect()
        gc.disable()
        try:
            for _ in range(CONNECTIONS):
                await ask(running.port, context)
            await running.settle()
            await eventually(lambda: not running.stack.listeners.active_connections)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = [kind for kind in map(type, gc.garbage) if kind.__module__.startswith("sidecar.")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    server.close()
    assert len(ours) < CONNECTIONS, sorted({kind.__name__ for kind in ours})


async def ask(port: int, context: ssl.SSLContext | None) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="reviews" if context else None
    )
    writer.write(REQUEST)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_calls_over_http2_leave_no_garbage() -> None:
    def call(port: int, times: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            service = TestServiceClient(channel)
            for _ in range(times):
                service.empty(Empty(), timeout=10)

    loop = asyncio.get_running_loop()
    routes = configuration(virtual_host(route(prefix(), to("up"))))
    with serving() as port:
        host = static_cluster(at_port(port), codec_type=CodecType.HTTP2)
        async with running_stack(manager_of(ROUTER, route_config=routes), host) as running:
            await loop.run_in_executor(None, call, running.port, 1)
            await running.settle()
            gc.collect()
            gc.disable()
            try:
                await loop.run_in_executor(None, call, running.port, CONNECTIONS)
                await running.settle()
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                ours = [kind for kind in map(type, gc.garbage) if kind.__module__.startswith("sidecar.")]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
    assert len(ours) < CONNECTIONS, sorted({kind.__name__ for kind in ours})
