"""The life of the process, without any port or listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sidecar.admin.state import ServerState
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, Listener, TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.errors import SidecarError
from sidecar.runtime import Sidecar
from tests.support.clusters import snapshot, static_cluster

DEADLINE_S = 5.0


@asynccontextmanager
async def sidecar(**settings: Any) -> AsyncIterator[Sidecar]:
    made = Sidecar(
        Settings(status_port=None, metrics_port=None, **{"drain_time_s": 0.0, **settings}),
        Bootstrap(static=snapshot(static_cluster())),
    )
    try:
        yield made
    finally:
        await made.close()


async def test_it_is_live_once_its_configuration_is_in_force_and_until_it_drains() -> None:
    async with sidecar(drain_time_s=60.0) as made:
        assert made._state() is ServerState.PRE_INITIALIZING
        run = asyncio.create_task(made.run())
        async with asyncio.timeout(DEADLINE_S):
            while made._state() is not ServerState.LIVE:
                await asyncio.sleep(0)
        made.drain_and_stop()
        assert made._state() is ServerState.DRAINING
        made.drain_and_stop()
        await asyncio.sleep(0)
        assert not run.done(), "a second SIGTERM changes nothing"
        made.stop()
        await asyncio.wait_for(run, DEADLINE_S)


async def test_it_ends_when_it_has_drained() -> None:
    async with sidecar() as made:
        run = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        made.drain_and_stop()
        await asyncio.wait_for(run, DEADLINE_S)


async def test_a_task_that_fails_ends_the_process_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("a fault of ours")

    async with sidecar() as made:
        monkeypatch.setattr(made._xds, "run", fail)
        with pytest.raises(SidecarError, match=r"^xds: ZeroDivisionError: a fault of ours$"):
            await asyncio.wait_for(made.run(), DEADLINE_S)
    assert "Traceback" in caplog.text, "whoever has to find the fault is told where it is"


async def test_what_a_task_says_of_the_surroundings_is_passed_on_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse() -> None:
        raise SidecarError("no such control plane")

    async with sidecar() as made:
        monkeypatch.setattr(made._xds, "run", refuse)
        with pytest.raises(SidecarError, match=r"^no such control plane$"):
            await asyncio.wait_for(made.run(), DEADLINE_S)
    assert "Traceback" not in caplog.text


async def test_a_task_that_is_done_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar() as made:
        monkeypatch.setattr(made._xds, "run", lambda: asyncio.sleep(0))
        run = asyncio.create_task(made.run())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not run.done()
        made.stop()
        await run


async def test_metrics_name_the_workload_as_the_control_plane_does_and_forget_what_is_gone() -> None:
    proxy = TcpProxy(stat_prefix="db", clusters=(WeightedCluster(name="up"),))
    listener = Listener(
        name="l",
        address=SocketAddress("127.0.0.1", 1),
        filter_chains=(FilterChain(name="c", filter=proxy),),
        bind_to_port=False,
        metadata={"workload": "web;default;;;"},
    )
    clusters = snapshot(static_cluster())

    def prefixes() -> set[str]:
        made._forget_what_is_gone()
        return {prefix for prefix, _ in made._stats.sets()}

    async with sidecar() as made:
        assert not made._apply(replace(clusters, listeners={"l": listener}))
        assert made._telemetry.source.local.name == "web"
        assert prefixes() == {"cluster.up", "tcp.db", "listener.127.0.0.1_1"}
        made._apply(clusters)
        assert prefixes() == {"cluster.up"}
