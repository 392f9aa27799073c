from __future__ import annotations

import gc
from weakref import ref

import pytest

from controlplane.networking import memo
from controlplane.networking.memo import forget_unused, memoized
from protos.type_urls import CLUSTER, ENDPOINT, ROUTE


class Thing:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared by value")

    __hash__ = None  # type: ignore[assignment]  # the world's objects cannot be hashed either


def test_the_same_object_gets_the_same_result() -> None:
    make = memoized()(lambda thing: [thing])
    thing = Thing()
    assert make(thing) is make(thing)


def test_another_object_gets_another_result() -> None:
    make = memoized()(lambda thing: [thing])
    first, second = Thing(), Thing()
    assert make(first)[0] is first
    assert make(second)[0] is second


def test_strings_are_compared_by_value() -> None:
    make = memoized()(lambda name: [name])
    assert make("".join(["de", "fault"])) is make("default")


def test_frozen_sets_are_compared_by_value() -> None:
    make = memoized()(lambda names: [names])
    assert make(frozenset({"a", "b"})) is make(frozenset({"b", "a"}))


def test_keyword_arguments_count_too() -> None:
    make = memoized()(lambda *, thing, name: (thing, name))
    thing = Thing()
    assert make(thing=thing, name="a") is make(thing=thing, name="a")
    assert make(thing=thing, name="b")[1] == "b"


def test_an_identity_is_not_reused_while_it_is_remembered() -> None:
    make = memoized()(lambda thing: object())
    results = [make(Thing()) for _ in range(50)]
    assert len(set(map(id, results))) == 50


def test_what_two_worlds_did_not_use_is_let_go() -> None:
    make = memoized()(lambda thing: None)
    thing = Thing()
    gone = ref(thing)
    make(thing)
    del thing
    forget_unused()
    assert gone() is not None
    forget_unused()
    gc.collect()
    assert gone() is None


def test_what_every_world_uses_stays() -> None:
    make = memoized()(lambda thing: [thing])
    thing = Thing()
    first = make(thing)
    for _ in range(5):
        forget_unused()
        assert make(thing) is first


def test_of_results_that_differ_in_the_latest_only_the_last_is_kept() -> None:
    make = memoized(latest=("world",))(lambda name, *, world: [name, world])
    before, after = Thing(), Thing()
    gone = ref(before)
    assert make("a", world=before)[1] is before
    assert make("b", world=before) is make("b", world=before)
    for name in ("a", "b"):
        assert make(name, world=after)[1] is after
    del before
    gc.collect()
    assert gone() is None


def test_names_that_proxies_invent_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_MOST_RESULTS", 10)
    make = memoized()(lambda name, thing: None)
    thing = Thing()
    gone = ref(thing)
    make("", thing)
    del thing
    for number in range(30):
        make(str(number), None)
    gc.collect()
    assert gone() is None


def test_what_other_types_are_built_from_is_not_forgotten() -> None:
    calls: list[str] = []

    @memoized(types=[ENDPOINT])
    def built(name: str) -> str:
        calls.append(name)
        return name

    built("a")
    for _ in range(3):
        forget_unused([ROUTE, CLUSTER])
    built("a")
    assert calls == ["a"]
    for _ in range(2):
        forget_unused([ROUTE, ENDPOINT])
    built("a")
    assert calls == ["a", "a"]
