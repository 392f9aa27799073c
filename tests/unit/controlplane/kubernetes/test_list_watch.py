"""A list-watch with a scripted API server: the next request after each kind of end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.kubernetes.api import Document
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Changes, Collection, ListWatch, Timing, name_of

TIMING = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002), absence_s=0.0)


def pod(name: str, version: int) -> Document:
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": str(version)}}


def listing(version: int, *pods: Document) -> Document:
    return {"metadata": {"resourceVersion": str(version)}, "items": list(pods)}


def event(happened: str, subject: Document) -> Document:
    return {"type": happened, "object": subject}


def expired() -> Document:
    return event("ERROR", {"code": 410, "message": "too old resource version"})


class Script:
    """Answers lists and watches from a script; after its end, the watch stays open. Each watch lasts
    ``lasts_s`` of its own clock."""

    def __init__(
        self, *answers: Document | list[Document | KubernetesError] | KubernetesError, lasts_s: float = 0.0
    ) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.played = asyncio.Event()
        self.now_s = 0.0
        self._lasts_s = lasts_s

    async def get(self, path: str, query: Mapping[str, str]) -> Document:
        self.asked.append("list" if path == "/api/v1/pods" else f"list {path}")
        answer = self.answers.pop(0)
        if isinstance(answer, KubernetesError):
            raise answer
        assert isinstance(answer, dict)
        return answer

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[Document, None]:
        self.asked.append(f"watch {query['resourceVersion']}")
        if not self.answers:
            self.played.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        assert isinstance(answer, list)
        self.now_s += self._lasts_s
        for each in answer:
            if isinstance(each, KubernetesError):
                raise each
            yield each


async def play(
    *answers: Any, timing: Timing = TIMING, lasts_s: float = 0.0, older_paths: tuple[str, ...] = ()
) -> tuple[Script, list[Changes]]:
    script, told = Script(*answers, lasts_s=lasts_s), list[Changes]()
    watch = ListWatch(
        script,
        "/api/v1/pods",
        told.append,
        timing=timing,
        older_paths=older_paths,
        clock=lambda: script.now_s,
        rng=Random(1),
    )
    running = asyncio.create_task(watch.run(), name="watch")
    async with asyncio.timeout(5):
        await script.played.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return script, told


async def test_a_broken_connection_is_taken_up_where_it_broke() -> None:
    broken = [event("ADDED", pod("a", 5)), UnreachableError("cut")]
    script, told = await play(listing(3), broken)
    assert script.asked == ["list", "watch 3", "watch 5"]
    assert told == [Changes(present=(pod("a", 5),))]


@pytest.mark.parametrize("end", [[UnreachableError("cut")], []])
async def test_a_long_watch_without_events_is_renewed_at_once(end: Any) -> None:
    """A load balancer closes silent connections. An increasing back-off would delay the next event."""
    timing = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=60.0), resync_s=1e9)
    script, _ = await play(listing(3), *[end] * 16, timing=timing, lasts_s=30.0)
    assert script.asked == ["list", *["watch 3"] * 17]


async def test_watches_that_end_at_once_wait_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []
    real_sleep = asyncio.sleep

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)
        await real_sleep(0)

    monkeypatch.setattr("controlplane.kubernetes.list_watch.asyncio.sleep", sleep)
    timing = Timing(backoff=Backoff(first_delay_s=1.0, longest_delay_s=60.0), resync_s=1e9)
    await play(listing(3), [], [UnreachableError("cut")], [], timing=timing)
    assert delays[0] < delays[1] < delays[2]


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_api_server_is_not_asked_for_a_list(status: int) -> None:
    script, _ = await play(listing(3), [event("ADDED", pod("a", 5)), RefusedError(status, "busy")])
    assert script.asked == ["list", "watch 3", "watch 5"]


async def test_managed_fields_are_not_kept() -> None:
    def noted(name: str, version: int) -> Document:
        subject = pod(name, version)
        return {"metadata": {**subject["metadata"], "managedFields": [{"manager": "kubelet"}]}}

    _, told = await play(listing(3, noted("a", 1)), [event("ADDED", noted("b", 4))])
    assert told == [Changes(present=(pod("a", 1),)), Changes(present=(pod("b", 4),))]


async def test_a_bookmark_moves_the_place_to_go_on_from() -> None:
    script, told = await play(listing(3), [event("BOOKMARK", pod("", 9))])
    assert script.asked == ["list", "watch 3", "watch 9"]
    assert not told


@pytest.mark.parametrize(
    "refusal",
    [
        [expired()],
        [RefusedError(410, "gone")],
        [RefusedError(500, "no")],
        # Its etcd was restored from a backup: the requested version may never exist.
        [RefusedError(504, "too large resource version")],
    ],
)
async def test_after_an_error_status_the_collection_is_listed_without_repeated_changes(
    refusal: list[Any],
) -> None:
    script, told = await play(
        listing(3, pod("a", 1), pod("b", 2)), refusal, listing(8, pod("a", 1), pod("c", 7))
    )
    assert script.asked == ["list", "watch 3", "list", "watch 8"]
    assert told[1:] == [Changes(present=(pod("c", 7),), gone=(("default", "b"),))]


async def test_an_event_that_a_list_already_contained_is_not_passed_on() -> None:
    _, told = await play(listing(3, pod("a", 3)), [event("MODIFIED", pod("a", 3))])
    assert told == [Changes(present=(pod("a", 3),))]


async def test_pages_of_an_incomplete_list_are_not_passed_on() -> None:
    first = {"metadata": {"resourceVersion": "3", "continue": "more"}, "items": [pod("a", 1)]}
    script, told = await play(first, RefusedError(410, "continue token expired"), listing(4, pod("b", 2)))
    assert script.asked == ["list", "list", "list", "watch 4"]
    assert [name_of(each) for changes in told for each in changes.present] == [("default", "b")]


async def test_a_kind_that_goes_takes_its_objects_along() -> None:
    _, told = await play(
        listing(3, pod("a", 1)),
        [RefusedError(404, "not found")],
        RefusedError(404, "not found"),
        listing(9),
    )
    assert told[1:] == [Changes(gone=(("default", "a"),))]


async def test_a_kind_that_is_unknown_for_a_moment_keeps_its_objects() -> None:
    timing = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002), absence_s=1000.0)
    _, told = await play(
        listing(3, pod("a", 1)), [RefusedError(404, "starting")], listing(3, pod("a", 1)), timing=timing
    )
    assert told == [Changes(present=(pod("a", 1),))]


OLDER = ("/api/v1beta1/pods", "/api/v1alpha1/pods")


async def test_the_newest_version_that_is_served_is_followed() -> None:
    unknown = RefusedError(404, "not found")
    old, new = listing(3, pod("a", 1)), listing(5, pod("a", 1), pod("b", 4))
    timing = replace(TIMING, absence_s=1000.0)
    script, told = await play(unknown, old, [unknown], new, timing=timing, older_paths=OLDER)
    first, again = [["list", "list /api/v1beta1/pods", "watch 3"], ["list", "watch 5"]]
    assert script.asked == [*first, *again]
    assert told == [Changes(present=(pod("a", 1),)), Changes(present=(pod("b", 4),))]


async def test_a_kind_is_unknown_if_none_of_its_versions_is_served() -> None:
    unknown = RefusedError(404, "not found")
    script, told = await play(
        listing(3, pod("a", 1)), [unknown], unknown, unknown, unknown, listing(9), older_paths=OLDER
    )
    assert script.asked[2:] == ["list", *(f"list {path}" for path in OLDER), "list", "watch 9"]
    assert told[1:] == [Changes(gone=(("default", "a"),))]


async def test_a_periodic_list_finds_changes_that_the_watch_missed() -> None:
    timing = Timing(backoff=Backoff(first_delay_s=0.001, longest_delay_s=0.002), resync_s=0.0)
    script, told = await play(listing(3), [], listing(4, pod("a", 4)), timing=timing)
    assert script.asked == ["list", "watch 3", "list", "watch 4"]
    assert told == [Changes(present=(pod("a", 4),))]


NONSENSE: list[Any] = [
    {},
    {"metadata": None},
    {"metadata": {}},
    {"metadata": {"resourceVersion": ""}},
    {"metadata": {"resourceVersion": "3"}, "items": 7},
    {"metadata": {"resourceVersion": "3"}, "items": {"a": "b"}},
    {"metadata": {"resourceVersion": "3"}, "items": [None]},
    {"metadata": {"resourceVersion": "3"}, "items": [{"metadata": {"name": "a"}}]},
    {"metadata": {"resourceVersion": "3"}, "items": [{"metadata": {"resourceVersion": "3"}}]},
]


@pytest.mark.parametrize("page", NONSENSE)
async def test_a_malformed_list_is_requested_again_and_removes_nothing(page: Any) -> None:
    """A JSON response from another server, such as a gateway in front of the API server, must not end the
    control plane."""
    script, told = await play(
        listing(3, pod("a", 3)), [expired()], page, listing(4, pod("a", 3), pod("b", 4))
    )
    assert script.asked == ["list", "watch 3", "list", "list", "watch 4"]
    assert told[1:] == [Changes(present=(pod("b", 4),))]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"type": "ADDED"},
        {"type": "ADDED", "object": None},
        {"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "9"}}},
        {"type": "DELETED", "object": {"metadata": {"name": "a", "resourceVersion": 9}}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": ""}}},
        {"type": "ERROR", "object": None},
    ],
)
async def test_a_malformed_event_ends_only_the_watch(nonsense: Any) -> None:
    good = [event("ADDED", pod("a", 5)), nonsense]
    script, told = await play(listing(3), good)
    assert script.asked == ["list", "watch 3", "watch 5"]
    assert told == [Changes(present=(pod("a", 5),))]


def test_an_object_that_was_deleted_twice_is_reported_once() -> None:
    collection = Collection()
    collection.put(pod("a", 1))
    assert collection.remove(pod("a", 2)) == Changes(gone=(("default", "a"),))
    assert not collection.remove(pod("a", 2))
