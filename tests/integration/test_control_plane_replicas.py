"""The sidecar's own calls while replicas of the control plane fail: through sockets, against grpcio, and
against sockets that are no gRPC server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.type_urls import CLUSTER
from sidecar.bootstrap import Bootstrap
from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.grpc.addresses import Addresses, system_look_up
from sidecar.grpc.call import call_unary, open_call
from sidecar.grpc.errors import GrpcError
from sidecar.grpc.target import Target
from tests.support.ads_follower import ads_bootstrap
from tests.support.ads_server import TIMEOUT_S, AdsServer, Stream, ads_server
from tests.support.envoy_config import load_assignment, static_cluster
from tests.support.xds_runtime import Runtime, running

UNARY = "/test.S/Unary"


def followed(*ports: int, **options: Any) -> Bootstrap:
    """A sidecar whose cluster of the control plane has these endpoints, the first with the highest
    priority."""
    assignment = load_assignment("xds", *ports)
    (group,) = assignment["endpoints"]
    assignment["endpoints"] = [
        {"priority": priority, "lb_endpoints": [endpoint]}
        for priority, endpoint in enumerate(group["lb_endpoints"])
    ]
    return ads_bootstrap(ports[0], load_assignment=assignment, **options)


async def first_stream(server: AdsServer, runtime: Runtime) -> Stream:
    """At the first replica, with a cluster in force."""
    stream = await server.stream()
    await stream.request(CLUSTER)
    await stream.send_delta(CLUSTER, static_cluster("kept", 1))
    assert "kept" in runtime.snapshot.clusters
    return stream


async def moved(server: AdsServer, runtime: Runtime) -> Stream:
    """The stream is at the other replica, which is told the version that is in force."""
    stream = await server.stream()
    first = await stream.request(CLUSTER)
    assert first.initial_resource_versions["kept"] == "1"
    assert "kept" in runtime.snapshot.clusters
    await stream.send_delta(CLUSTER, static_cluster("new", 1), version="2")
    assert set(runtime.snapshot.clusters) >= {"kept", "new"}
    return stream


async def test_the_stream_moves_to_another_replica_when_its_own_is_killed() -> None:
    runtime = Runtime()
    async with ads_server() as other, AsyncExitStack() as stack:
        killed = await stack.enter_async_context(ads_server())
        async with running(followed(killed.port, other.port), runtime) as client:
            await first_stream(killed, runtime)
            await stack.aclose()
            await moved(other, runtime)
            assert client.state.connected


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK])
async def test_the_stream_moves_when_its_replica_ends_it(status: grpc.StatusCode) -> None:
    runtime = Runtime()
    async with (
        ads_server() as first,
        ads_server() as other,
        running(followed(first.port, other.port), runtime),
    ):
        stream = await first_stream(first, runtime)
        stream.close(error=status)
        await moved(other, runtime)


async def test_the_stream_moves_when_its_replica_begins_to_drain() -> None:
    """GOAWAY: the replica would finish the stream, but takes no part in the next changes."""
    runtime = Runtime()
    async with (
        ads_server() as other,
        ads_server() as draining,
        running(followed(draining.port, other.port), runtime),
    ):
        await first_stream(draining, runtime)
        stopping = asyncio.create_task(draining.stop(grace_s=30.0))
        await moved(other, runtime)
        await asyncio.wait_for(stopping, TIMEOUT_S)


async def test_the_stream_moves_when_its_replica_hangs() -> None:
    keepalive = {"connection_keepalive": {"interval": "0.2s", "timeout": "1s"}}
    runtime = Runtime()
    async with ads_server() as first, ads_server() as other, stalling(first.port) as (port, stall):
        boot = followed(port, other.port, http2_protocol_options=keepalive)
        async with running(boot, runtime):
            await first_stream(first, runtime)
            stall()
            await moved(other, runtime)


@asynccontextmanager
async def stalling(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A port that forwards to another one, until it is told to stall: then nothing is closed either."""
    stalled = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not stalled.is_set():
                    writer.write(data)
        finally:
            writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            tasks.add(asyncio.create_task(copy(source, sink)))

    async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
        try:
            yield server.sockets[0].getsockname()[1], stalled.set
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_stream_begins_at_the_replica_that_can_be_reached() -> None:
    runtime = Runtime()
    async with ads_server() as other:
        with unused_port() as port:
            async with running(followed(port, other.port), runtime):
                stream = await other.stream()
                await stream.request(CLUSTER)


@contextmanager
def unused_port() -> Iterator[int]:
    """No other program gets it meanwhile."""
    with closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# Single calls, of which signing requests are an example.

_PAUSES_S = {b"slow": 0.3, b"sleep": 60.0}


@asynccontextmanager
async def answering(answer: bytes, code: grpc.StatusCode | None = None) -> AsyncIterator[SocketAddress]:
    async def unary(request: bytes, context: Any) -> bytes:
        if request in _PAUSES_S:
            await asyncio.sleep(_PAUSES_S[request])
        if code is not None:
            await context.abort(code, "not now")
        return answer

    server = grpc.aio.server()
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.S", handlers)])
    address = SocketAddress("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    try:
        yield address
    finally:
        await server.stop(0)


def server(*addresses: SocketAddress, **options: Any) -> Target:
    endpoints = tuple(Endpoint(address=address, priority=at) for at, address in enumerate(addresses))
    options.setdefault("addresses", Addresses(system_look_up))
    return Target(endpoints=endpoints, **options)


async def test_the_call_after_an_unavailable_one_goes_to_another_replica() -> None:
    async with answering(b"", grpc.StatusCode.UNAVAILABLE) as down, answering(b"up") as up:
        target = server(down, up)
        with pytest.raises(GrpcError, match="UNAVAILABLE: not now"):
            await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S)
        assert await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S) == b"up"


async def test_the_call_after_one_without_an_answer_goes_to_another_replica() -> None:
    async with answering(b"first") as slow, answering(b"up") as up:
        target = server(slow, up)
        with pytest.raises(GrpcError, match="DEADLINE_EXCEEDED"):
            await call_unary(target, UNARY, b"sleep", timeout_s=0.1)
        assert await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S) == b"up"


async def test_a_call_beside_one_that_waits_for_its_answer_goes_to_another_replica() -> None:
    """A request for a certificate is repeated while the first one hangs."""
    addresses = Addresses(system_look_up, answer_patience_s=0.05)
    async with answering(b"first") as slow, answering(b"up") as up:
        target = server(slow, up, addresses=addresses)
        hanging = asyncio.create_task(call_unary(target, UNARY, b"sleep", timeout_s=TIMEOUT_S))
        await asyncio.wait([hanging], timeout=0.2)
        assert await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S) == b"up"
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_a_call_after_a_slow_answer_goes_to_the_same_replica() -> None:
    addresses = Addresses(system_look_up, answer_patience_s=0.05)
    async with answering(b"first") as slow, answering(b"up") as other:
        target = server(slow, other, addresses=addresses)
        assert await call_unary(target, UNARY, b"slow", timeout_s=TIMEOUT_S) == b"first"
        assert await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S) == b"first"


async def test_a_call_that_its_replica_refuses_is_not_repeated_at_another() -> None:
    async with answering(b"", grpc.StatusCode.PERMISSION_DENIED) as strict, answering(b"up") as other:
        target = server(strict, other)
        for _ in range(2):
            with pytest.raises(GrpcError, match="PERMISSION_DENIED"):
                await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S)


async def test_goaway_with_a_reason_ends_the_call_and_is_told() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        goaway = struct.pack(">II", 0, 11) + b"too_many_pings"
        writer.write(b"\0\0\0\4\0\0\0\0\0" + len(goaway).to_bytes(3, "big") + b"\7\0\0\0\0\0" + goaway)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening, answering(b"up") as up:
        target = server(SocketAddress(*listening.sockets[0].getsockname()[:2]), up)
        call = await open_call(target, UNARY)
        with pytest.raises(GrpcError, match="the server goes away: HTTP/2 error 11 too_many_pings"):
            await call.receive()
        assert await call_unary(target, UNARY, b"", timeout_s=TIMEOUT_S) == b"up"
