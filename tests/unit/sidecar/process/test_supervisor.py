"""The life of the process, without any port or listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from protos.spiffe import SpiffeId
from sidecar import workload
from sidecar.admin.state import ServerState
from sidecar.config.bootstrap import Bootstrap, Settings
from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, HttpConnectionManager, Listener, TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.config.tls import DownstreamTls, TlsParameters
from sidecar.errors import BootstrapError
from sidecar.identity.rotation import SvidRotation
from sidecar.process.supervisor import Supervisor, rest_of_minimum_s
from tests.support.clusters import snapshot, static_cluster
from tests.support.identities import TestTrustDomain, key_here

DEADLINE_S = 5.0


@asynccontextmanager
async def supervisor(bootstrap: Bootstrap | None = None, **settings: Any) -> AsyncIterator[Supervisor]:
    made = Supervisor(
        Settings(status_port=None, metrics_port=None, **{"drain_time_s": 0.0, **settings}),
        bootstrap or Bootstrap(static=snapshot(static_cluster())),
    )
    try:
        yield made
    finally:
        await made.close()


async def test_it_is_live_once_its_configuration_is_in_force_and_until_it_drains() -> None:
    async with supervisor(drain_time_s=60.0) as made:
        assert made.state() is ServerState.PRE_INITIALIZING
        run = asyncio.create_task(made.run())
        async with asyncio.timeout(DEADLINE_S):
            while made.state() is not ServerState.LIVE:
                await asyncio.sleep(0)
        made.drain_and_stop()
        assert made.state() is ServerState.DRAINING
        made.drain_and_stop()
        await asyncio.sleep(0)
        assert not run.done(), "a second SIGTERM changes nothing"
        made.stop()
        await asyncio.wait_for(run, DEADLINE_S)


async def test_it_is_initializing_while_a_listener_warms_but_only_until_it_was_live() -> None:
    http = HttpConnectionManager(stat_prefix="in", rds_name="missing")
    listener = Listener(
        name="l",
        address=SocketAddress("127.0.0.1", 1),
        filter_chains=(FilterChain(name="c", filter=http),),
        bind_to_port=False,
    )
    complete = snapshot(static_cluster())
    warming = replace(complete, listeners={"l": listener})
    async with supervisor() as made:
        await made.apply(warming)
        assert made.state() is ServerState.INITIALIZING
        await made.apply(complete)
        assert made.state() is ServerState.LIVE
        await made.apply(warming)
        assert made.state() is ServerState.LIVE


@pytest.mark.parametrize(
    ("drain_time_s", "passed_s", "rest_s"),
    [(45.0, 0.0, 5.0), (45.0, 3.0, 2.0), (45.0, 60.0, 0.0), (2.0, 0.5, 1.5)],
)
def test_the_hook_of_a_pod_begins_the_drain(drain_time_s: float, passed_s: float, rest_s: float) -> None:
    assert rest_of_minimum_s(drain_time_s, passed_s) == rest_s


async def test_its_certificate_is_renewed_while_it_drains(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    domain = TestTrustDomain(SpiffeId("cluster.local", "a", "b"), lifetime_s=1.0)
    monkeypatch.setattr(workload, "SigningClient", lambda **_: domain)
    monkeypatch.setattr(workload, "SvidRotation", partial(SvidRotation, new_key=key_here))
    bootstrap = Bootstrap(
        static=snapshot(static_cluster()), node_metadata={"NAMESPACE": "a", "SERVICE_ACCOUNT": "b"}
    )
    settings = {"ca_address": "ca.test:1", "ca_cert": tmp_path / "root.pem", "token": "secret"}
    async with supervisor(bootstrap, drain_time_s=60.0, **settings) as made:
        run = asyncio.create_task(made.run())
        async with asyncio.timeout(DEADLINE_S):
            while domain.signed == 0:
                await asyncio.sleep(0.01)
            made.drain_and_stop()
            before = domain.signed
            while domain.signed < before + 2:
                await asyncio.sleep(0.01)
        assert made.state() is ServerState.DRAINING
        made.stop()
        await asyncio.wait_for(run, DEADLINE_S)


async def test_it_ends_when_it_has_drained() -> None:
    async with supervisor() as made:
        run = asyncio.create_task(made.run())
        await asyncio.sleep(0)
        made.drain_and_stop()
        await asyncio.wait_for(run, DEADLINE_S)


async def test_static_listener_that_cannot_be_served_ends_the_process() -> None:
    unusable = FilterChain(
        name="c",
        filter=TcpProxy(stat_prefix="db", clusters=(WeightedCluster(name="up"),)),
        tls=DownstreamTls(parameters=TlsParameters(certificate_secret="missing")),
    )
    listener = Listener(
        name="l", address=SocketAddress("127.0.0.1", 1), filter_chains=(unusable,), bind_to_port=False
    )
    static = replace(snapshot(static_cluster()), listeners={"l": listener})
    async with supervisor(Bootstrap(static=static)) as made:
        with pytest.raises(BootstrapError, match=r"^static listener 'l': .*missing"):
            await asyncio.wait_for(made.run(), DEADLINE_S)
