"""Names resolved by c-ares from a name server on loopback, with the files of a cluster's pod."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import dns.rcode
import pytest
import pytest_asyncio

from sidecar.config.dns import DnsLookupFamily, DnsResolver
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import NameResolutionError
from sidecar.upstream.dns.question import Answer, Question
from sidecar.upstream.dns.resolver import CaresResolver
from tests.support.dns_server import NameServer, name_server
from tests.support.listening import eventually

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop", "asyncio"])


@pytest.fixture(autouse=True)
def search(monkeypatch: pytest.MonkeyPatch) -> None:
    """What resolv.conf says in a pod, in the variables that come before that file (resolv.conf(5))."""
    monkeypatch.setenv("LOCALDOMAIN", "shop.svc.cluster.local")
    monkeypatch.setenv("RES_OPTIONS", "ndots:5")


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


class Pod:
    """A resolver whose questions go to the test's server."""

    def __init__(self, names: NameServer) -> None:
        self.config = DnsResolver(servers=(SocketAddress("127.0.0.1", names.port),))
        self.resolver = CaresResolver(asyncio.get_running_loop())

    async def ask(
        self, name: str, family: DnsLookupFamily = DnsLookupFamily.V4_ONLY, **options: object
    ) -> tuple[str, ...]:
        return (await self.answer(name, family, **options)).addresses

    async def answer(
        self, name: str, family: DnsLookupFamily = DnsLookupFamily.V4_ONLY, **options: object
    ) -> Answer:
        config = replace(self.config, **options)  # type: ignore[arg-type]
        return await self.resolver(Question(name, family, config))


@pytest_asyncio.fixture
async def pod(names: NameServer) -> AsyncIterator[Pod]:
    pod = Pod(names)
    yield pod
    pod.resolver.close()


async def test_search_domains_are_tried_first_where_a_name_has_few_dots(names: NameServer, pod: Pod) -> None:
    names.say("reviews.shop.svc.cluster.local", "10.0.0.1")
    names.say("api.example.com", "10.0.0.2")
    assert await pod.ask("reviews") == ("10.0.0.1",)
    assert names.asked == ["reviews.shop.svc.cluster.local A"]
    names.asked.clear()
    assert await pod.ask("api.example.com") == ("10.0.0.2",)
    assert [question.removesuffix(" A") for question in names.asked] == [
        "api.example.com.shop.svc.cluster.local",
        "api.example.com",
    ]
    names.asked.clear()
    assert await pod.ask("api.example.com.") == ("10.0.0.2",)
    assert names.asked == ["api.example.com A"]
    assert await pod.ask("reviews", search=False) == ()


async def test_system_files_are_read_again(
    names: NameServer, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    names.say("reviews.bank.svc.cluster.local", "10.0.0.7")
    assert await pod.ask("reviews") == ()
    monkeypatch.setenv("LOCALDOMAIN", "bank.svc.cluster.local")
    async with asyncio.timeout(10):
        while await pod.ask("reviews") != ("10.0.0.7",):
            await asyncio.sleep(0.02)


async def test_the_hosts_file_comes_before_every_server(names: NameServer, pod: Pod) -> None:
    assert await pod.ask("localhost") == ("127.0.0.1",)
    assert names.asked == []


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (DnsLookupFamily.AUTO, ("2001:db8::1",)),
        (DnsLookupFamily.V6_ONLY, ("2001:db8::1",)),
        (DnsLookupFamily.V4_ONLY, ("10.0.0.1",)),
        (DnsLookupFamily.V4_PREFERRED, ("10.0.0.1",)),
        (DnsLookupFamily.ALL, ("10.0.0.1", "2001:db8::1")),
    ],
)
async def test_lookup_families(
    names: NameServer, pod: Pod, family: DnsLookupFamily, expected: tuple[str, ...]
) -> None:
    names.say("both.test", "10.0.0.1", "2001:db8::1")
    assert await pod.ask("both.test.", family) == expected


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (DnsLookupFamily.AUTO, "10.0.0.1", ("10.0.0.1",)),
        (DnsLookupFamily.V4_PREFERRED, "2001:db8::1", ("2001:db8::1",)),
        (DnsLookupFamily.V6_ONLY, "10.0.0.1", ()),
        (DnsLookupFamily.V4_ONLY, "2001:db8::1", ()),
    ],
)
async def test_a_family_that_is_merely_preferred_gives_way(
    names: NameServer, pod: Pod, family: DnsLookupFamily, address: str, expected: tuple[str, ...]
) -> None:
    names.say("one.test", address)
    assert await pod.ask("one.test.", family) == expected


@pytest.mark.parametrize("family", [DnsLookupFamily.AUTO, DnsLookupFamily.ALL])
async def test_a_server_that_is_silent_about_one_family_does_not_hide_the_other(
    names: NameServer, pod: Pod, family: DnsLookupFamily
) -> None:
    names.say("one.test", "10.0.0.1")
    names.keep_silent("one.test", "AAAA")
    assert await pod.ask("one.test.", family, query_timeout_s=0.3, query_tries=20) == ("10.0.0.1",)


async def test_a_name_that_does_not_exist_and_one_without_addresses_are_answers(
    names: NameServer, pod: Pod
) -> None:
    names.say("empty.test")
    assert await pod.ask("empty.test.") == ()
    assert await pod.ask("absent.test.") == ()


async def test_a_server_that_cannot_tell_is_a_failure(names: NameServer, pod: Pod) -> None:
    names.say("broken.test", rcode=dns.rcode.SERVFAIL)
    with pytest.raises(NameResolutionError):
        await pod.ask("broken.test.", query_tries=1)


@pytest.mark.parametrize("name", ["x" * 64 + ".test", "a..test", "a b.test", "a\0.test", "é\0.test"])
async def test_an_invalid_name_is_a_failure(pod: Pod, name: str) -> None:
    with pytest.raises(NameResolutionError):
        await pod.ask(name, query_timeout_s=0.1, query_tries=2)


async def test_names_that_get_no_answer_hold_up_no_other(names: NameServer, pod: Pod) -> None:
    names.keep_silent("dead.test")
    names.say("good.test", "10.0.0.1")
    dead = [asyncio.create_task(pod.ask("dead.test.", query_timeout_s=60.0)) for _ in range(50)]
    await eventually(lambda: names.count("dead.test") > 0)
    assert await pod.ask("good.test.", query_timeout_s=60.0) == ("10.0.0.1",)
    assert not any(task.done() for task in dead)
    names.say("dead.test", "10.0.0.2")
    assert set(await asyncio.gather(*dead)) == {("10.0.0.2",)}


async def test_a_silent_server_is_given_up_in_time(names: NameServer, pod: Pod) -> None:
    names.keep_silent("dead.test")
    async with asyncio.timeout(10):
        with pytest.raises(NameResolutionError):
            await pod.ask("dead.test.", query_timeout_s=0.1, query_tries=3)


async def test_families_without_a_route_are_not_asked_for(names: NameServer, pod: Pod) -> None:
    pod.resolver = CaresResolver(asyncio.get_running_loop(), routable=lambda family: family is socket.AF_INET)
    names.say("both.test", "10.0.0.1", "2001:db8::1")
    expected = ("10.0.0.1",)
    assert await pod.ask("both.test.", DnsLookupFamily.AUTO, routable_families_alone=True) == expected
    assert names.asked == ["both.test A"]


async def test_the_address_that_can_be_reached_comes_first_where_that_is_asked_for(
    names: NameServer, pod: Pod
) -> None:
    names.say("both.test", "127.0.0.1", "2001:db8::1")
    question = Question("both.test.", resolver=pod.config, by_reachability=True)
    assert set((await pod.resolver(question)).addresses) == {"127.0.0.1", "2001:db8::1"}


async def test_a_truncated_answer_is_requested_over_tcp(names: NameServer, pod: Pod) -> None:
    addresses = tuple(f"10.0.1.{number}" for number in range(200))
    names.say("many.test", *addresses, truncated=True)
    assert set(await pod.ask("many.test.")) == set(addresses)
    assert names.asked == ["many.test A", "many.test A tcp"]
    names.asked.clear()
    await pod.ask("many.test.", use_tcp=True)
    assert names.asked == ["many.test A tcp"]


async def test_the_least_ttl_of_all_records_holds(names: NameServer, pod: Pod) -> None:
    names.say("alias.test", "10.0.0.1", alias="canonical.test", ttl_s=30)
    assert await pod.answer("alias.test.") == Answer(("10.0.0.1",), ttl_s=30)


async def test_answers_are_not_cached(names: NameServer, pod: Pod) -> None:
    names.say("dead.test", "10.0.0.9")
    names.keep_silent("dead.test")
    waiting = asyncio.create_task(pod.ask("dead.test.", query_timeout_s=60.0))
    await eventually(lambda: names.count("dead.test") > 0)
    for number in range(5):
        names.say("good.test", f"10.0.0.{number}", ttl_s=300)
        assert await pod.ask("good.test.", query_timeout_s=60.0) == (f"10.0.0.{number}",)
    names.say("dead.test", "10.0.0.9")
    assert await waiting == ("10.0.0.9",)


@pytest.mark.parametrize("family", list(DnsLookupFamily))
async def test_closing_ends_active_look_ups(names: NameServer, pod: Pod, family: DnsLookupFamily) -> None:
    names.keep_silent("dead.test")
    asking = asyncio.create_task(pod.ask("dead.test.", family))
    await eventually(lambda: names.count("dead.test") > 0)
    pod.resolver.close()
    with pytest.raises(NameResolutionError):
        await asking


async def test_a_look_up_of_two_families_survives_that_its_channel_retires(
    names: NameServer, pod: Pod
) -> None:
    names.say("one.test", "2001:db8::1")
    asked = [pod.ask("one.test.", DnsLookupFamily.V4_PREFERRED) for _ in range(20)]
    assert set(await asyncio.gather(*asked)) == {("2001:db8::1",)}
    waiting = asyncio.create_task(pod.ask("one.test.", DnsLookupFamily.V4_PREFERRED))
    for _ in range(20):  # each retires the channel of the one before
        assert await pod.ask("one.test.", DnsLookupFamily.V6_ONLY) == ("2001:db8::1",)
    assert await waiting == ("2001:db8::1",)
