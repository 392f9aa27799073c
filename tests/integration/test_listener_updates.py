"""The effects of a new configuration on listeners, their sockets and their connections."""

from __future__ import annotations

import asyncio
import dataclasses
import socket

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChainMatch, TrafficDirection
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import DownstreamTls, TlsParameters
from sidecar.listener.manager import ListenerSettings, ListenerState
from tests.support.listening import (
    chain,
    eventually,
    http,
    listener,
    listening,
    snapshot,
)

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


async def test_an_update_keeps_the_socket_and_the_connections_of_unchanged_chains() -> None:
    stays = chain("stays")
    async with listening(listener(stays, chain("goes", FilterChainMatch(destination_port=1)))) as harness:
        port = harness.port()
        reader, writer = await harness.connect()
        writer.write(b"1")
        assert await reader.readexactly(7) == b"stays:1"
        before = harness.handlers["stays"]
        harness.serve(listener(stays, chain("comes", FilterChainMatch(destination_port=1))))
        assert harness.port() == port
        assert harness.handlers["stays"] is before
        assert not before.drained
        assert harness.handlers["goes"].drained
        assert harness.handlers["goes"].closed, "it has no connection left"
        writer.write(b"2")
        assert await reader.readexactly(7) == b"stays:2"
        writer.close()


async def test_new_connections_get_the_new_chain_while_old_ones_go_on_with_theirs() -> None:
    settings = ListenerSettings(drain_time_s=0.3)
    async with listening(listener(chain("old")), settings=settings) as harness:
        old_reader, old_writer = await harness.connect()
        old_writer.write(b"1")
        await old_reader.readexactly(5)
        harness.serve(listener(chain("new")))
        assert harness.handlers["old"].drained
        assert ListenerState.DRAINING in {status.state for status in harness.manager.statuses()}
        new_reader, new_writer = await harness.connect()
        new_writer.write(b"1")
        assert await new_reader.readexactly(5) == b"new:1"
        old_writer.write(b"2")
        assert await old_reader.readexactly(5) == b"old:2"
        assert not harness.handlers["old"].closed
        assert await asyncio.wait_for(old_reader.read(), 5) == b"", "cut when the drain time is over"
        assert harness.handlers["old"].closed
        assert {status.state for status in harness.manager.statuses()} == {ListenerState.ACTIVE}
        for writer in (old_writer, new_writer):
            writer.close()


async def test_a_removed_listener_refuses_connections_and_serves_the_ones_it_has() -> None:
    async with listening(listener(chain("only"))) as harness:
        port = harness.port()
        reader, writer = await harness.connect()
        writer.write(b"1")
        await reader.readexactly(6)
        harness.serve()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"2")
        assert await reader.readexactly(6) == b"only:2"
        again = SocketAddress("127.0.0.1", port)
        harness.serve(listener(chain("again"), address=again))
        new_reader, new_writer = await harness.connect()
        new_writer.write(b"3")
        assert await new_reader.readexactly(7) == b"again:3"
        for each in (writer, new_writer):
            each.close()


async def test_a_port_in_use_is_named_and_harms_no_other_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = SocketAddress(*taken.getsockname())
        async with listening() as harness:
            errors = harness.manager.update(
                snapshot(
                    listener(chain("a"), name="blocked", address=address), listener(chain("b"), name="free")
                )
            )
            assert list(errors) == ["blocked"]
            text = str(errors["blocked"])
            assert "'blocked'" in text
            assert str(address) in text
            assert "Address already in use" in text
            reader, writer = await harness.connect("free")
            writer.write(b"x")
            assert await reader.readexactly(3) == b"b:x"
            writer.close()


async def test_two_listeners_cannot_have_one_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = SocketAddress(*probe.getsockname())
    async with listening() as harness:
        errors = harness.manager.update(
            snapshot(
                listener(chain("a"), name="first", address=address),
                listener(chain("b"), name="second", address=address),
            )
        )
        assert list(errors) == ["second"]
        assert "'first'" in str(errors["second"])


async def test_a_broken_change_leaves_the_listener_as_it_was() -> None:
    async with listening(listener(chain("good"))) as harness:
        without_certificate = chain("x", tls=DownstreamTls(parameters=TlsParameters()))
        errors = harness.manager.update(snapshot(listener(without_certificate)))
        assert "a TLS server needs a certificate" in str(errors["inbound"])
        reader, writer = await harness.connect()
        writer.write(b"x")
        assert await reader.readexactly(6) == b"good:x"
        writer.close()


async def test_a_renamed_listener_takes_the_socket_over_without_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = SocketAddress(*probe.getsockname())
    async with listening(listener(chain("a"), name="before", address=address)) as harness:
        backlog = [socket.create_connection((address.host, address.port)) for _ in range(20)]
        harness.serve(listener(chain("b"), name="after", address=address))
        reader, writer = await harness.connect("after")
        writer.write(b"x")
        assert await reader.readexactly(3) == b"b:x"
        await eventually(lambda: harness.manager.active_connections == 21)
        writer.close()
        for client in backlog:
            client.close()


async def test_listeners_can_swap_their_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        first, second = SocketAddress(*one.getsockname()), SocketAddress(*two.getsockname())
    a, b = chain("a"), chain("b")
    async with listening(
        listener(a, name="a", address=first), listener(b, name="b", address=second)
    ) as harness:
        harness.serve(listener(a, name="a", address=second), listener(b, name="b", address=first))
        reader, writer = await asyncio.open_connection(first.host, first.port)
        writer.write(b"x")
        assert await reader.readexactly(3) == b"b:x"
        writer.close()


async def test_a_listener_warms_until_its_routes_are_there() -> None:
    warming = listener(
        dataclasses.replace(
            chain("rds"), filter=dataclasses.replace(http("rds"), route_config=None, rds_name="9080")
        )
    )
    async with listening() as harness:
        assert not harness.manager.update(snapshot(warming))
        assert [status.state for status in harness.manager.statuses()] == [ListenerState.WARMING]
        routes = {"9080": http("9080").route_config}
        harness.manager.update(Snapshot(listeners={"inbound": warming}, routes=routes))
        assert [status.state for status in harness.manager.statuses()] == [ListenerState.ACTIVE]
        _, writer = await harness.connect()
        writer.close()


# Hand-over by original destination.


async def test_drain_tells_the_handlers_and_goes_on_accepting() -> None:
    async with listening(listener(chain("only"))) as harness:
        harness.manager.drain()
        assert harness.handlers["only"].drained
        reader, writer = await harness.connect()
        writer.write(b"x")
        assert await reader.readexactly(6) == b"only:x"
        writer.close()


async def test_stopping_one_direction_closes_its_listeners_alone() -> None:
    inbound = listener(chain("in"), direction=TrafficDirection.INBOUND)
    outbound = listener(chain("out"), name="outbound", direction=TrafficDirection.OUTBOUND)
    async with listening(inbound, outbound) as harness:
        port = harness.port()
        harness.manager.stop((TrafficDirection.INBOUND,))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        _, writer = await harness.connect("outbound")
        writer.close()
