"""Integration tests that carry traffic run on the event loop that the sidecar runs on: they ask for it with
``pytest.mark.asyncio(loop_factories=["uvloop"])``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.support.flaky_upstream import FlakyUpstream, flaky_upstream


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def upstream() -> AsyncIterator[FlakyUpstream]:
    async with flaky_upstream("a") as started:
        yield started


@pytest.fixture
async def other() -> AsyncIterator[FlakyUpstream]:
    async with flaky_upstream("b") as started:
        yield started
