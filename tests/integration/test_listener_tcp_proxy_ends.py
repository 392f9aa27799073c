"""How the end of a stream passes through the TCP proxy, with slow peers, in plaintext and in TLS."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from sidecar.config.listener import TcpProxy
from sidecar.config.route import WeightedCluster
from tests.support.stream_peer import (
    END,
    RESET,
    SMALL_BUFFER_BYTES,
    StreamHost,
    StreamPeer,
    connect_stream,
)
from tests.support.tcp_proxied import FakeCluster, Proxy
from tests.support.virtual_time import VirtualTime

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

SIDES = pytest.mark.parametrize(
    ("client_tls", "host_tls"), [(False, False), (True, False), (False, True), (True, True)]
)
# More than the kernel takes off the proxy's hands: net.ipv4.tcp_wmem ends at 4 MiB by default.
LARGE = random.Random(1).randbytes(6_000_000)
# So much that the proxy has read all of it, and the end, while some of it waits to be sent.
TAIL = LARGE[:90_000]


class Stretch:
    """A client and a host with small windows, and the proxy between them, with a stopped clock."""

    proxy: Proxy
    client: StreamPeer
    host: StreamPeer

    async def settle(self) -> None:
        """Until as much is under way as there is room for."""
        before: tuple[int, ...] = ()
        async with asyncio.timeout(10):
            while before != (now := (*self.client.queued_bytes, *self.host.queued_bytes)):
                before = now
                await asyncio.sleep(0.05)

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.proxy.time.advance(1)


@asynccontextmanager
async def stretch(client_tls: bool, host_tls: bool) -> AsyncIterator[Stretch]:
    authority = trustme.CA()
    serving, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("a.test").configure_cert(serving)
    authority.configure_trust(trust)
    trust.check_hostname = False
    host = StreamHost(serving if host_tls else None)
    cluster = FakeCluster(host.port)
    cluster.trust = trust if host_tls else None
    cluster.send_buffer_bytes = SMALL_BUFFER_BYTES
    config = TcpProxy(stat_prefix="tcp", clusters=(WeightedCluster(name="db"),))
    made = Stretch()
    made.proxy = Proxy(config, {"db": cluster}, VirtualTime())
    await made.proxy.start(serving if client_tls else None, send_buffer_bytes=SMALL_BUFFER_BYTES)
    accepted = host.accept(receive_buffer_bytes=SMALL_BUFFER_BYTES)
    try:
        made.client = await asyncio.to_thread(
            connect_stream,
            made.proxy.port,
            trust if client_tls else None,
            receive_buffer_bytes=SMALL_BUFFER_BYTES,
        )
        made.host = await asyncio.wrap_future(accepted)
        with made.client, made.host:
            yield made
    finally:
        made.proxy.handler.close()
        made.proxy.server.close()
        host.close()


@SIDES
@pytest.mark.parametrize("data", [TAIL, LARGE], ids=["tail", "much"])
@pytest.mark.parametrize("client_ends_first", [False, True])
async def test_the_tail_reaches_a_client_that_pauses(
    client_tls: bool, host_tls: bool, data: bytes, client_ends_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if client_ends_first:
            await asyncio.to_thread(made.client.end)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(lambda: (made.host.send(data), made.host.end())))
            first = await asyncio.to_thread(made.client.receive)
            await made.settle()
            made.pass_time(600)
            rest = await asyncio.to_thread(made.client.drain)
        assert rest.how == END
        assert first + rest.data == data


@SIDES
@pytest.mark.parametrize("data", [TAIL, LARGE], ids=["tail", "much"])
@pytest.mark.parametrize("host_ends_first", [False, True])
async def test_the_tail_reaches_a_host_that_pauses(
    client_tls: bool, host_tls: bool, data: bytes, host_ends_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if host_ends_first:
            await asyncio.to_thread(made.host.end)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(lambda: (made.client.send(data), made.client.end())))
            first = await asyncio.to_thread(made.host.receive)
            await made.settle()
            made.pass_time(600)
            rest = await asyncio.to_thread(made.host.drain)
        assert rest.how == END
        assert first + rest.data == data


@SIDES
@pytest.mark.parametrize("end_first", [False, True])
async def test_a_tail_that_a_client_does_not_take_ends_in_a_reset(
    client_tls: bool, host_tls: bool, end_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        if end_first:
            await asyncio.to_thread(made.client.end)
        # With what it holds back, the proxy's buffers included, the host has closed when time passes.
        sending = asyncio.create_task(asyncio.to_thread(lambda: (made.host.send(LARGE), made.host.end())))
        await asyncio.to_thread(made.client.receive)
        await made.settle()
        made.pass_time(4100)
        rest = await asyncio.to_thread(made.client.drain)
        assert rest.how == RESET
        with suppress(ConnectionError):
            await sending


@SIDES
async def test_a_reset_by_the_host_reaches_the_client(client_tls: bool, host_tls: bool) -> None:
    async with stretch(client_tls, host_tls) as made:
        await asyncio.to_thread(made.host.send, b"x" * 10_000)
        await asyncio.to_thread(made.client.receive_exactly, 10_000)
        made.host.reset()
        assert (await asyncio.to_thread(made.client.drain)).how == RESET


@SIDES
async def test_a_reset_by_the_client_reaches_the_host(client_tls: bool, host_tls: bool) -> None:
    async with stretch(client_tls, host_tls) as made:
        await asyncio.to_thread(made.client.send, b"x" * 10_000)
        await asyncio.to_thread(made.host.receive_exactly, 10_000)
        made.client.reset()
        assert (await asyncio.to_thread(made.host.drain)).how == RESET
