from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sidecar.config.endpoint import Endpoint, HealthStatus, SocketAddress
from sidecar.grpc.addresses import Addresses
from sidecar.grpc.errors import GrpcError

PLANE = SocketAddress("plane.test", 15012)


class NameServer:
    """Answers with `addresses`, unless an error is to be raised or it is `silent`."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.error: Exception | None = None
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.asked = 0

    async def look_up(self, address: SocketAddress) -> list[str]:
        self.asked += 1
        await self.speaks.wait()
        if self.error is not None:
            raise self.error
        return list(self.addresses)


async def test_each_call_follows_the_name() -> None:
    server = NameServer("10.0.0.1")
    addresses = Addresses(server.look_up)
    assert await addresses.of(PLANE) == ["10.0.0.1"]
    server.addresses = ["10.0.0.2"]
    assert await addresses.of(PLANE) == ["10.0.0.2"]


@pytest.mark.parametrize("error", [OSError("no answer"), UnicodeError("invalid")])
async def test_a_name_that_was_never_resolved_is_an_error(error: Exception) -> None:
    server = NameServer()
    server.error = error
    with pytest.raises(GrpcError, match=f"UNAVAILABLE: cannot resolve plane.test: {error}"):
        await Addresses(server.look_up).of(PLANE)


async def test_the_last_answer_serves_while_the_name_server_fails() -> None:
    server = NameServer("10.0.0.1")
    addresses = Addresses(server.look_up)
    await addresses.of(PLANE)
    server.error = OSError("no answer")
    assert await addresses.of(PLANE) == ["10.0.0.1"]


async def test_the_last_answer_serves_while_the_name_server_is_silent_and_is_asked_once() -> None:
    server = NameServer("10.0.0.1")
    addresses = Addresses(server.look_up, patience_s=0)
    await addresses.of(PLANE)
    server.speaks.clear()
    server.addresses = ["10.0.0.2"]
    assert [await addresses.of(PLANE) for _ in range(3)] == [["10.0.0.1"]] * 3
    assert server.asked == 2, "each look-up takes a thread"
    server.speaks.set()
    while await addresses.of(PLANE) != ["10.0.0.2"]:
        await asyncio.sleep(0)


async def test_a_call_that_is_given_up_does_not_end_the_look_up_of_others() -> None:
    server = NameServer("10.0.0.1")
    addresses = Addresses(server.look_up)
    server.speaks.clear()
    first, second = (asyncio.create_task(addresses.of(PLANE)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    server.speaks.set()
    assert await second == ["10.0.0.1"]
    assert server.asked == 1


# The replicas of a server.

ONE, TWO, THREE = (SocketAddress(f"10.0.0.{number}", 15012) for number in (1, 2, 3))


async def literal(address: SocketAddress) -> list[str]:
    return [address.host]


def endpoints(*addresses: SocketAddress, **fields: Any) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(address=address, **fields) for address in addresses)


async def order(addresses: Addresses, *replicas: Endpoint) -> list[SocketAddress]:
    return [replica.address for replica in await addresses.replicas(replicas)]


async def test_all_addresses_of_all_endpoints_are_tried_in_random_order() -> None:
    async def two(address: SocketAddress) -> list[str]:
        return ["10.0.0.1", "10.0.0.2"] if address == PLANE else [address.host]

    addresses = Addresses(two)
    found = [tuple(await order(addresses, *endpoints(PLANE, THREE, ONE))) for _ in range(100)]
    assert {frozenset(each) for each in found} == {frozenset({ONE, TWO, THREE})}
    assert {each[0] for each in found} == {ONE, TWO, THREE}
    names = {(each.address, each.name) for each in await addresses.replicas(endpoints(PLANE, THREE))}
    assert names == {(ONE, "plane.test"), (TWO, "plane.test"), (THREE, "10.0.0.3")}


async def test_a_replica_that_has_failed_is_tried_last_until_it_answers_or_a_minute_has_passed() -> None:
    now_s = 1000.0
    addresses = Addresses(literal, clock=lambda: now_s)
    servers = (*endpoints(ONE), *endpoints(TWO, priority=1), *endpoints(THREE, priority=2))
    assert await order(addresses, *servers) == [ONE, TWO, THREE]
    addresses.failed(ONE)
    assert await order(addresses, *servers) == [TWO, THREE, ONE]
    now_s += 1
    addresses.failed(TWO)
    assert await order(addresses, *servers) == [THREE, ONE, TWO]
    addresses.answered(ONE)
    assert await order(addresses, *servers) == [ONE, THREE, TWO]
    now_s += 61
    assert await order(addresses, *servers) == [ONE, TWO, THREE]


async def test_an_endpoint_that_is_not_healthy_by_the_configuration_is_tried_after_those_that_are() -> None:
    ill = endpoints(ONE, health=HealthStatus.UNHEALTHY)
    well = endpoints(TWO, priority=1, health=HealthStatus.HEALTHY)
    assert await order(Addresses(literal), *ill, *well) == [TWO, ONE]


async def test_a_name_without_an_answer_leaves_the_other_endpoints() -> None:
    async def one(address: SocketAddress) -> list[str]:
        if address == PLANE:
            raise OSError("no answer")
        return [address.host]

    assert await order(Addresses(one), *endpoints(PLANE, ONE)) == [ONE]
    with pytest.raises(GrpcError, match=r"UNAVAILABLE: cannot resolve plane.test: no answer"):
        await Addresses(one).replicas(endpoints(PLANE))


class OneSilentName:
    """Answers numeric addresses at once, and `PLANE` when it is told to."""

    def __init__(self) -> None:
        self.speaks = asyncio.Event()

    async def look_up(self, address: SocketAddress) -> list[str]:
        if address == PLANE:
            await self.speaks.wait()
            return [TWO.host]
        return [address.host]


async def test_a_name_that_is_being_resolved_does_not_hold_up_the_others_and_joins_them_later() -> None:
    server = OneSilentName()
    addresses = Addresses(server.look_up, patience_s=0.01)
    both = endpoints(PLANE, ONE)
    assert await order(addresses, *both) == [ONE]
    server.speaks.set()
    assert await addresses.of(PLANE) == [TWO.host]
    assert set(await order(addresses, *both)) == {ONE, TWO}
    server.speaks.clear()
    assert set(await order(addresses, *both)) == {ONE, TWO}, "the last answer"


async def test_a_name_without_alternative_is_waited_for() -> None:
    async def fails(address: SocketAddress) -> list[str]:
        if address == ONE:
            raise OSError("no answer")
        return await server.look_up(address)

    server = OneSilentName()
    waiting = asyncio.create_task(order(Addresses(fails, patience_s=0.01), *endpoints(ONE, PLANE)))
    await asyncio.wait([waiting], timeout=0.05)
    assert not waiting.done()
    server.speaks.set()
    assert await waiting == [TWO]


async def test_a_server_without_endpoints_has_no_address() -> None:
    with pytest.raises(GrpcError, match="UNAVAILABLE: the server has no address"):
        await Addresses(literal).replicas(())
