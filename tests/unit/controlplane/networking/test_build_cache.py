from __future__ import annotations

import gc
from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from weakref import ref

import pytest

from controlplane.networking.build_cache import BuildCache, cached
from protos.type_urls import CLUSTER, ENDPOINT, PUSH_ORDER, ROUTE


class Thing:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared by value")

    __hash__ = None  # type: ignore[assignment]  # the objects of a snapshot cannot be hashed either


@pytest.fixture
def cache() -> BuildCache:
    return BuildCache()


def keep(
    cache: BuildCache,
    function: Callable[..., Any],
    latest: Collection[str] = (),
    types: Collection[str] = PUSH_ORDER,
) -> Callable[..., Any]:
    """The cached function, with its cache."""

    @cached(latest=latest, types=types)
    def look_up(_: BuildCache, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return partial(look_up, cache)


def test_the_same_object_gets_the_same_result(cache: BuildCache) -> None:
    make = keep(cache, lambda thing: [thing])
    thing = Thing()
    assert make(thing) is make(thing)


def test_another_object_gets_another_result(cache: BuildCache) -> None:
    make = keep(cache, lambda thing: [thing])
    first, second = Thing(), Thing()
    assert make(first)[0] is first
    assert make(second)[0] is second


def test_caches_share_nothing() -> None:
    @cached()
    def make(cache: BuildCache, name: str) -> list[str]:
        return [name]

    first, second = BuildCache(), BuildCache()
    assert make(first, "a") is make(first, "a")
    assert make(first, "a") is not make(second, "a")


def test_strings_are_compared_by_value(cache: BuildCache) -> None:
    make = keep(cache, lambda name: [name])
    assert make("".join(["de", "fault"])) is make("default")


def test_frozen_sets_are_compared_by_value(cache: BuildCache) -> None:
    make = keep(cache, lambda names: [names])
    assert make(frozenset({"a", "b"})) is make(frozenset({"b", "a"}))


def test_keyword_arguments_are_part_of_the_key(cache: BuildCache) -> None:
    make = keep(cache, lambda *, thing, name: (thing, name))
    thing = Thing()
    assert make(thing=thing, name="a") is make(thing=thing, name="a")
    assert make(thing=thing, name="b")[1] == "b"


def test_an_identity_is_not_reused_while_it_is_a_key(cache: BuildCache) -> None:
    make = keep(cache, lambda thing: object())
    results = [make(Thing()) for _ in range(50)]
    assert len(set(map(id, results))) == 50


def test_a_result_that_two_snapshots_did_not_use_is_dropped(cache: BuildCache) -> None:
    make = keep(cache, lambda thing: None)
    thing = Thing()
    gone = ref(thing)
    make(thing)
    del thing
    cache.forget_unused()
    assert gone() is not None
    cache.forget_unused()
    gc.collect()
    assert gone() is None


def test_a_result_that_every_snapshot_uses_stays(cache: BuildCache) -> None:
    make = keep(cache, lambda thing: [thing])
    thing = Thing()
    first = make(thing)
    for _ in range(5):
        cache.forget_unused()
        assert make(thing) is first


def test_of_results_that_differ_in_the_latest_only_the_last_is_kept(cache: BuildCache) -> None:
    make = keep(cache, lambda name, *, endpoints: [name, endpoints], latest=("endpoints",))
    before, after = Thing(), Thing()
    gone = ref(before)
    assert make("a", endpoints=before)[1] is before
    assert make("b", endpoints=before) is make("b", endpoints=before)
    for name in ("a", "b"):
        assert make(name, endpoints=after)[1] is after
    del before
    gc.collect()
    assert gone() is None


def test_the_names_that_proxies_invent_are_not_kept_for_ever() -> None:
    make = keep(BuildCache(most_results=10), lambda name, thing: None)
    thing = Thing()
    gone = ref(thing)
    make("", thing)
    del thing
    for number in range(30):
        make(str(number), None)
    gc.collect()
    assert gone() is None


def test_the_results_that_other_types_are_built_from_are_not_dropped(cache: BuildCache) -> None:
    calls: list[str] = []
    built = keep(cache, calls.append, types=[ENDPOINT])
    built("a")
    for _ in range(3):
        cache.forget_unused([ROUTE, CLUSTER])
    built("a")
    assert calls == ["a"]
    for _ in range(2):
        cache.forget_unused([ROUTE, ENDPOINT])
    built("a")
    assert calls == ["a", "a"]
