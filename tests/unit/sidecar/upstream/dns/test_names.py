from __future__ import annotations

import asyncio

import pytest

from sidecar.errors import NameResolutionError
from sidecar.upstream.dns.names import NameCache, SharedLookUps
from sidecar.upstream.dns.question import Answer, Question
from tests.support.names import Names, turns


class World:
    """A cache, the look-ups below it, and a clock."""

    def __init__(
        self, capacity: int = 10, patience_s: float = 60.0, **answers: list[str] | Exception | None
    ) -> None:
        self.names = Names(**answers)
        self.now_s = 0.0
        self.look_ups = SharedLookUps(self.names, asyncio.get_running_loop())
        self.cache = NameCache(self.look_ups, lambda: self.now_s, capacity=capacity, patience_s=patience_s)

    async def ask(self, name: str) -> list[str]:
        return list((await self.cache(Question(name))).addresses)

    async def asks_again(self, name: str, at_s: float) -> bool:
        """Whether the resolver is asked, at that time."""
        self.now_s = at_s
        before = len(self.names.asked)
        await asyncio.gather(self.ask(name), return_exceptions=True)
        return len(self.names.asked) > before


async def test_equal_questions_at_the_same_time_share_one_look_up() -> None:
    world = World(a=None)
    asking = [asyncio.create_task(world.look_ups(Question("a"))) for _ in range(5)]
    asking += [asyncio.create_task(world.cache(Question("a"))) for _ in range(5)]
    await turns()
    world.names.say("a", "10.0.0.1")
    assert set(await asyncio.gather(*asking)) == {Answer(("10.0.0.1",))}
    assert world.names.asked == ["a"]


async def test_a_look_up_goes_on_when_one_of_those_who_wait_leaves() -> None:
    world = World(a=None)
    leaving, staying = (asyncio.create_task(world.ask("a")) for _ in range(2))
    await turns()
    leaving.cancel()
    await turns()
    world.names.say("a", "10.0.0.1")
    assert await staying == ["10.0.0.1"]
    assert world.names.asked == ["a"]


async def test_a_failure_that_no_caller_waits_for_is_not_an_error_of_the_loop() -> None:
    world = World(a=None)
    asking = asyncio.create_task(world.look_ups(Question("a")))
    await turns()
    asking.cancel()
    world.names.fail("a")
    await turns()
    await world.look_ups.close()


async def test_answers_are_remembered_for_a_moment() -> None:
    world = World(a=["10.0.0.1"])
    assert await world.ask("a") == ["10.0.0.1"]
    assert not await world.asks_again("a", 4.9)
    assert await world.asks_again("a", 5.0)


@pytest.mark.parametrize("failure", [NameResolutionError("no server answered"), []])
async def test_failures_are_remembered_for_longer_each_time_up_to_a_bound(
    failure: list[str] | Exception,
) -> None:
    world = World(a=failure)
    at_s = 0.0
    assert await world.asks_again("a", at_s)
    for lifetime_s in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert not await world.asks_again("a", at_s + lifetime_s - 0.1)
        at_s += lifetime_s
        assert await world.asks_again("a", at_s)
    world.names.say("a", "10.0.0.1")
    assert await world.asks_again("a", at_s + 10.0)
    world.names.fail("a")
    assert await world.asks_again("a", at_s + 15.0)
    assert await world.asks_again("a", at_s + 16.0)


async def test_a_remembered_failure_says_why() -> None:
    world = World(a=NameResolutionError("no server answered"))
    for _ in range(2):
        with pytest.raises(NameResolutionError, match="no server answered"):
            await world.ask("a")
    assert world.names.asked == ["a"]


async def test_names_are_remembered_in_bounded_number() -> None:
    world = World(capacity=2, a=["1.1.1.1"], b=[], c=["3.3.3.3"])
    for name in ("a", "b", "c", "c", "a"):
        await world.ask(name)
    assert world.names.asked == ["a", "b", "c", "a"]  # the third name drove out the first


async def test_so_many_names_are_asked_for_at_once_and_no_more() -> None:
    world = World(capacity=2, a=None, b=None, c=["3.3.3.3"])
    asking = [asyncio.create_task(world.ask(name)) for name in ("a", "b")]
    await turns()
    with pytest.raises(NameResolutionError, match="2 other names"):
        await world.ask("c")
    world.names.say("a", "1.1.1.1")
    world.names.say("b", "2.2.2.2")
    await asyncio.gather(*asking)
    assert await world.ask("c") == ["3.3.3.3"]


async def test_a_request_gives_up_while_the_look_up_goes_on_for_the_next_one() -> None:
    world = World(patience_s=0.0, a=None)
    with pytest.raises(NameResolutionError, match="no answer within 0 s"):
        await world.ask("a")
    world.names.say("a", "10.0.0.1")
    await turns()
    assert await world.ask("a") == ["10.0.0.1"]
    assert world.names.asked == ["a"]


async def test_closing_ends_the_active_look_ups() -> None:
    world = World(a=None)
    asking = asyncio.create_task(world.ask("a"))
    await turns()
    await world.look_ups.close()
    with pytest.raises(NameResolutionError):
        await asking
