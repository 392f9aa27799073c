from __future__ import annotations

import asyncio

import pytest

from sidecar.config.endpoint import SocketAddress
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
