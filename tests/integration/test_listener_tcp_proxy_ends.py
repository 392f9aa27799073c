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
from tests.support.tcp_sockets import is_left_unread, is_read, other_end
from tests.support.virtual_time import VirtualTime

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

SIDES = pytest.mark.parametrize(
    ("client_tls", "host_tls"), [(False, False), (True, False), (False, True), (True, True)]
)
SENDERS = pytest.mark.parametrize("sender", ["client", "host"])
# More than the kernel takes from the proxy: the default maximum of net.ipv4.tcp_wmem is 4 MiB.
LARGE = random.Random(1).randbytes(6_000_000)
# So few bytes that the proxy reads all of them, and the end, while some of them wait to be sent.
TAIL = LARGE[:90_000]


class Stretch:
    """A client and a host with small windows, and the proxy between them, with a stopped clock."""

    proxy: Proxy
    client: StreamPeer
    host: StreamPeer

    def peers(self, sender: str) -> tuple[StreamPeer, StreamPeer]:
        """Returns the sender and the reader. `sender` is "client" or "host"."""
        return (self.client, self.host) if sender == "client" else (self.host, self.client)

    async def pause_for(self, seconds: int, reader: StreamPeer, sending: asyncio.Task[object]) -> bytes:
        """The reader reads once, and then not for `seconds`. Returns the bytes that it read.

        The time passes when the reader has no more room, and the proxy has read all bytes and the end, or has
        stopped reading.
        """
        first = await asyncio.to_thread(reader.receive)
        sender = self.host if reader is self.client else self.client
        async with asyncio.timeout(10):
            while not other_end(reader.socket).probes_closed_window:
                await asyncio.sleep(0.002)
            while not (sending.done() and is_read(sender.socket)) and not await is_left_unread(sender.socket):
                await asyncio.sleep(0.002)
        for _ in range(seconds):
            self.proxy.time.advance(1)
        return first


def send_and_end(sender: StreamPeer, data: bytes) -> None:
    sender.send(data)
    sender.end()


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
@SENDERS
@pytest.mark.parametrize("data", [TAIL, LARGE], ids=["tail", "much"])
@pytest.mark.parametrize("reader_ends_first", [False, True])
async def test_the_tail_reaches_a_reader_that_pauses(
    client_tls: bool, host_tls: bool, sender: str, data: bytes, reader_ends_first: bool
) -> None:
    async with stretch(client_tls, host_tls) as made:
        sending_peer, reader = made.peers(sender)
        if reader_ends_first:
            await asyncio.to_thread(reader.end)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(asyncio.to_thread(send_and_end, sending_peer, data))
            first = await made.pause_for(600, reader, sending)
            rest = await asyncio.to_thread(reader.drain)
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
        sending = asyncio.create_task(asyncio.to_thread(send_and_end, made.host, LARGE))
        await made.pause_for(4100, made.client, sending)
        rest = await asyncio.to_thread(made.client.drain)
        assert rest.how == RESET
        with suppress(ConnectionError):
            await sending


@SIDES
@SENDERS
async def test_a_reset_by_the_sender_reaches_the_reader(
    client_tls: bool, host_tls: bool, sender: str
) -> None:
    async with stretch(client_tls, host_tls) as made:
        sending_peer, reader = made.peers(sender)
        await asyncio.to_thread(sending_peer.send, b"x" * 10_000)
        await asyncio.to_thread(reader.receive_exactly, 10_000)
        sending_peer.reset()
        assert (await asyncio.to_thread(reader.drain)).how == RESET
