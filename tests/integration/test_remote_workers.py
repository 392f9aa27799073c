"""The supervisor's side of several workers, over real sockets, with workers that the test plays."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChain, Listener, TcpProxy
from sidecar.config.route import WeightedCluster
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError, WorkerError
from sidecar.process import remote_worker
from sidecar.process.messages import Apply, Ejected, GoBack, ListeningSocket, MethodCall, Resources
from sidecar.process.remote_workers import RemoteWorkers
from sidecar.process.worker import WorkerConfig
from sidecar.upstream.outlier_detection import HostEjection
from tests.support.clusters import snapshot, static_cluster
from tests.support.identities import TestTrustDomain
from tests.support.scripted_workers import DEADLINE_S, ScriptedWorker, scripted

CHAIN = FilterChain(name="c", filter=TcpProxy(stat_prefix="t", clusters=(WeightedCluster(name="up"),)))


def listening(port: int) -> Snapshot:
    address = SocketAddress("127.0.0.1", port)
    listener = Listener(name="l", address=address, filter_chains=(CHAIN,))
    return replace(snapshot(static_cluster()), listeners={"l": listener})


async def arrival_of(worker: ScriptedWorker, kind: type, count: int) -> None:
    """Waits until the worker has got so many messages of this kind."""
    async with asyncio.timeout(DEADLINE_S):
        while len(worker.of(kind)) < count:
            await asyncio.sleep(0.001)


async def test_a_configuration_is_taken_when_the_slowest_worker_has_taken_it() -> None:
    async with scripted() as (workers, master):
        master.workers[1].holds_back.clear()
        applying = asyncio.create_task(workers.apply(snapshot(static_cluster())))
        async with asyncio.timeout(DEADLINE_S):
            while not all(worker.of(Apply) for worker in master.workers):
                await asyncio.sleep(0.001)
        assert not applying.done()
        master.workers[1].holds_back.set()
        assert await applying == {}


async def test_if_one_worker_refuses_a_configuration_the_others_go_back() -> None:
    async with scripted() as (workers, master):
        await workers.apply(snapshot(static_cluster(name="old")))
        master.workers[1].refuses = ConfigError("routes[0]", "is invalid")
        with pytest.raises(ConfigError, match="is invalid"):
            await workers.apply(snapshot(static_cluster(name="new")))
        assert len(master.workers[0].of(GoBack)) == 1
        assert not master.workers[1].of(GoBack)

        master.workers[1].refuses = None
        master.workers[0].snapshots.go_back()
        kept = static_cluster(name="new")
        await workers.apply(snapshot(kept))
        for worker in master.workers:
            assert worker.snapshots.go_back().clusters.keys() == {"old"}


async def test_the_errors_of_one_worker_are_those_of_all() -> None:
    async with scripted() as (workers, master):
        master.workers[1].errors = {"l": ConfigError("address", "no descriptors are left")}
        errors = await workers.apply(listening(0))
        assert errors.keys() == {"l"}


async def test_only_changed_resources_cross() -> None:
    first, second = static_cluster(name="a"), static_cluster(name="b")
    async with scripted() as (workers, master):
        await workers.apply(snapshot(first))
        await workers.apply(snapshot(first, second))
        sent = [
            message.resources.keys()
            for message in master.workers[0].of(Resources)
            if message.kind == "clusters"
        ]
        assert sent == [{"a"}, {"b"}]


async def test_a_replacement_gets_all_that_is_in_force() -> None:
    svid = TestTrustDomain().svid().pem()
    async with scripted() as (workers, master):
        await workers.apply(listening(0))
        await workers.use_svid(svid)
        await workers.drain()
        await master.workers[0].die()
        replacement = master.start(0)
        async with asyncio.timeout(DEADLINE_S):
            await workers.apply(listening(0))
        assert MethodCall(method="use_svid", arguments=(svid,)) in replacement.received
        assert "drain" in [message.method for message in replacement.of(MethodCall)]
        assert [message.kind for message in replacement.of(Resources)][:2] == ["listeners", "clusters"]
        assert [message.error for message in replacement.of(ListeningSocket)] == [None]
        assert workers.deaths == 1


async def test_a_configuration_waits_for_a_worker_that_is_being_replaced() -> None:
    async with scripted() as (workers, master):
        await workers.apply(snapshot())
        await master.workers[1].die()
        async with asyncio.timeout(DEADLINE_S):
            while not workers.deaths:
                await asyncio.sleep(0.001)
        applying = asyncio.create_task(workers.apply(snapshot(static_cluster())))
        await asyncio.sleep(0)
        replacement = master.start(1)
        await asyncio.wait_for(applying, DEADLINE_S)
        assert replacement.of(Apply)


async def test_a_port_that_is_taken_is_an_error_of_its_listener_and_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with scripted() as (workers, master):
            await workers.apply(listening(port))
            [message] = master.workers[0].of(ListeningSocket)
            assert str(message.error) == (
                f"address: listener 'l': cannot bind 127.0.0.1:{port}: Address already in use"
            )
            taken.close()
            await workers.use_svid(TestTrustDomain().svid().pem())
            assert master.workers[0].of(ListeningSocket)[-1].error is None


async def test_a_worker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_worker, "ANSWER_LIMIT_S", 0.01)
    async with scripted() as (workers, master):
        await workers.apply(snapshot())
        master.workers[1].holds_back.clear()
        with pytest.raises(WorkerError, match=r"^worker 2 \(pid \d+\) has not answered within 0.01 s$"):
            await workers.listeners()


async def test_a_worker_that_does_not_take_a_configuration_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_worker, "APPLY_LIMIT_S", 0.01)
    async with scripted() as (workers, master):
        master.workers[1].holds_back.clear()
        assert await workers.apply(snapshot(static_cluster())) == {}


async def test_a_worker_that_hangs_does_not_keep_a_drain_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_worker, "APPLY_LIMIT_S", 0.01)
    async with scripted() as (workers, master):
        await workers.apply(snapshot())
        master.workers[1].holds_back.clear()
        await workers.drain()
        await workers.use_svid(TestTrustDomain().svid().pem())
        assert [call.method for call in master.workers[0].of(MethodCall)] == ["drain", "use_svid"]


async def test_a_renewed_certificate_does_not_wait_for_a_slow_worker_to_take_its_configuration() -> None:
    domain = TestTrustDomain()
    async with scripted() as (workers, master):
        await workers.apply(snapshot())
        await workers.use_svid(domain.svid().pem())
        quick, slow = master.workers
        slow.holds_back.clear()
        applying = asyncio.create_task(workers.apply(snapshot(static_cluster())))
        await arrival_of(slow, Apply, 2)
        renewed = domain.svid().pem()
        renewing = asyncio.create_task(workers.use_svid(renewed))
        await arrival_of(quick, MethodCall, 2)
        assert quick.of(MethodCall)[1].arguments == (renewed,)
        assert not applying.done()
        slow.holds_back.set()
        assert (await applying, await renewing) == ({}, {})
        assert slow.of(MethodCall)[1].arguments == (renewed,)


async def test_the_end_of_the_master_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    workers = RemoteWorkers(ours, WorkerConfig(), 2, on_warm=lambda: None)
    theirs.close()
    with pytest.raises(WorkerError, match="the master process has ended"):
        await asyncio.wait_for(workers.run(), DEADLINE_S)
    await workers.close()


async def test_the_others_follow_an_ejection_and_a_replacement_gets_those_in_force() -> None:
    ejection = HostEjection(cluster="up", address=SocketAddress("127.0.0.1", 1), since_s=1.0)
    follow = MethodCall(method="follow_ejection", arguments=(ejection,))
    async with scripted() as (workers, master):
        await workers.apply(snapshot(static_cluster()))
        first, second = master.workers
        first.send(Ejected(ejection=ejection))
        async with asyncio.timeout(DEADLINE_S):
            while follow not in second.received:
                await asyncio.sleep(0.001)
        assert follow not in first.received
        second.answers["ejections"] = [ejection]
        await first.die()
        replacement = master.start(0)
        async with asyncio.timeout(DEADLINE_S):
            while follow not in replacement.received:
                await asyncio.sleep(0.001)
