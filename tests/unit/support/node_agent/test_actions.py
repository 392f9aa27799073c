"""Probes and hooks that need no container, at servers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.actions import ActionError, act
from tests.support.node_agent.tcp_server import tcp_server
from tests.support.processes import free_port

HOST = "127.0.0.1"
PORTS = {"ports": [{"name": "web", "containerPort": 1}]}


async def try_out(action: Resource, timeout_s: float = 5.0, container: Resource = PORTS) -> None:
    await act(action, container, None, HOST, timeout_s)


@asynccontextmanager
async def http_server(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Its port, and the heads of the requests that it got."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await reader.read()

    async with tcp_server(serve, HOST) as port:
        yield port, heads


@pytest.mark.parametrize("status", [200, 204, 302, 399])
async def test_a_success_over_http_is_any_status_below_400(status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".encode()
    async with http_server(answer) as (port, heads):
        headers = [{"name": "Host", "value": "shop"}]
        await try_out({"httpGet": {"port": port, "path": "/healthz?a=b", "httpHeaders": headers}})
    (head,) = heads
    assert head.startswith(b"GET /healthz?a=b HTTP/1.1\r\n")
    assert b"Host: shop\r\n" in head
    assert b"User-Agent: kube-probe/" in head


async def test_an_error_over_http_is_reported_with_its_status() -> None:
    async with http_server(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n") as (port, _):
        with pytest.raises(ActionError, match="statuscode: 503"):
            await try_out({"httpGet": {"port": port}})


async def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    async with http_server(b"") as (port, _):
        with pytest.raises(ActionError, match="timed out after"):
            await try_out({"httpGet": {"port": port}}, timeout_s=0.05)


async def test_a_closed_port_fails() -> None:
    port = free_port()
    for action in ({"httpGet": {"port": port}}, {"tcpSocket": {"port": port}}, {"grpc": {"port": port}}):
        with pytest.raises(ActionError, match=f"{HOST}:{port}"):
            await try_out(action)


async def test_a_connection_that_is_accepted_is_a_success() -> None:
    async with http_server(b"") as (port, _):
        named = {"ports": [{"name": "web", "containerPort": port}]}
        await try_out({"tcpSocket": {"port": "web"}}, container=named)


async def test_a_port_by_a_name_that_the_container_does_not_have_fails() -> None:
    with pytest.raises(ActionError, match="no port named 'admin'"):
        await try_out({"tcpSocket": {"port": "admin"}})


async def test_health_over_grpc_is_asked_for_by_service() -> None:
    asked = []

    async def check(request: bytes, context: object) -> bytes:
        asked.append(request)
        return b"\x08\x02" if request else b"\x08\x01"  # NOT_SERVING, SERVING

    handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        await try_out({"grpc": {"port": port}})
        with pytest.raises(ActionError, match="service 'shop' is not serving"):
            await try_out({"grpc": {"port": port, "service": "shop"}})
    finally:
        await server.stop(None)
    assert asked == [b"", b"\x0a\x04shop"]


async def test_a_hook_may_just_sleep() -> None:
    await try_out({"sleep": {"seconds": 0}})
