"""A collection is followed through every failure of an API server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import cast

import pytest
from aiohttp import ClientError

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource
from tests.support.node_agent import following
from tests.support.node_agent.following import follow

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}


class ScriptedApi:
    """Answers lists and watches from two queues; an exception in a queue is raised."""

    def __init__(self, *script: Exception | list[Resource | Exception]) -> None:
        self._script: Iterator[Exception | list[Resource | Exception]] = iter(script)
        self.watched_from: list[str] = []
        self._lists = 0

    async def get(self, path: str) -> Resource:
        answer = next(self._script)
        if isinstance(answer, Exception):
            raise answer
        self._lists += 1
        return {"metadata": {"resourceVersion": f"list-{self._lists}"}, "items": answer}

    async def watch(self, path: str, resource_version: str) -> AsyncGenerator[Resource, None]:
        self.watched_from.append(resource_version)
        events = next(self._script)
        assert isinstance(events, list)
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "RETRY_AFTER_S", 0)


def named(name: str, value: int = 0) -> Resource:
    return {"metadata": {"namespace": "shop", "name": name}, "value": value}


def event(kind: str, resource: Resource) -> Resource:
    return {"type": kind, "object": resource}


async def seen(api: ScriptedApi, times: int) -> list[dict[str, int]]:
    """The first states, as each resource's value by its name."""
    states: list[dict[str, int]] = []
    async with aclosing(follow(cast(KubernetesApi, api), "/api/v1/things")) as followed:
        async for found in followed:
            states.append({name: resource["value"] for (_, name), resource in found.items()})
            if len(states) == times:
                return states
    raise AssertionError("it ended")


async def test_each_event_changes_the_listed_objects() -> None:
    api = ScriptedApi(
        [named("a")],
        [event("ADDED", named("b")), event("MODIFIED", named("a", 1)), event("DELETED", named("b"))],
    )
    assert await seen(api, 4) == [{"a": 0}, {"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 1}]


@pytest.mark.parametrize(
    "end",
    [
        GONE,
        ClientError("cut"),
        TimeoutError(),
        KubernetesError(410, "gone"),
        json.JSONDecodeError("cut", "{", 1),
    ],
)
async def test_a_watch_that_ends_is_followed_by_a_fresh_list(end: Resource | Exception) -> None:
    api = ScriptedApi([named("a")], [end], [named("c")], [event("ADDED", named("d"))])
    assert await seen(api, 3) == [{"a": 0}, {"c": 0}, {"c": 0, "d": 0}]
    assert api.watched_from == ["list-1", "list-2"]


async def test_while_the_api_server_is_away_nothing_comes() -> None:
    api = ScriptedApi(
        [named("a")],
        [],
        ClientError("refused"),
        KubernetesError(429, "storage is (re)initializing"),
        TimeoutError(),
        [named("a", 1)],
    )
    assert await seen(api, 2) == [{"a": 0}, {"a": 1}]


async def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        await seen(ScriptedApi([{"no": "metadata"}]), 1)
