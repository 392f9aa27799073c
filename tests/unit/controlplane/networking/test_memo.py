from __future__ import annotations

import gc
from weakref import ref

from controlplane.networking.memo import memoized


class Thing:
    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared by value")

    __hash__ = None  # type: ignore[assignment]  # the world's objects cannot be hashed either


def test_the_same_object_gets_the_same_result() -> None:
    make = memoized(4)(lambda thing: [thing])
    thing = Thing()
    assert make(thing) is make(thing)


def test_another_object_gets_another_result() -> None:
    make = memoized(4)(lambda thing: [thing])
    first, second = Thing(), Thing()
    assert make(first)[0] is first
    assert make(second)[0] is second


def test_strings_are_compared_by_value() -> None:
    make = memoized(4)(lambda name: [name])
    assert make("".join(["de", "fault"])) is make("default")


def test_frozen_sets_are_compared_by_value() -> None:
    make = memoized(4)(lambda names: [names])
    assert make(frozenset({"a", "b"})) is make(frozenset({"b", "a"}))


def test_keyword_arguments_count_too() -> None:
    make = memoized(4)(lambda *, thing, name: (thing, name))
    thing = Thing()
    assert make(thing=thing, name="a") is make(thing=thing, name="a")
    assert make(thing=thing, name="b")[1] == "b"


def test_an_identity_is_not_reused_while_it_is_remembered() -> None:
    make = memoized(2)(lambda thing: object())
    results = [make(Thing()) for _ in range(50)]
    assert len(set(map(id, results))) == 50


def test_what_falls_out_is_let_go() -> None:
    make = memoized(1)(lambda thing: None)
    thing = Thing()
    gone = ref(thing)
    make(thing)
    del thing
    make(Thing())
    gc.collect()
    assert gone() is None
