"""One leader at a time, by a Lease of a real API server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.lease import Election, LeaseTiming
from tests.support.cluster_objects import NETWORKING, virtual_service
from tests.support.crds import install_crds
from tests.support.followed_cluster import by_way_of, server_of
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.status_replica import QUICK, ReplicaProcess, replica_process
from tests.support.tcp_proxy import cutting_proxy

# No replica takes it while its holder renews it, nor for a minute after that.
LONG = LeaseTiming(duration_s=60.0, renew_deadline_s=40.0, retry_s=0.1)


@dataclass
class Office:
    """Who leads, and whether it was ever more than one."""

    leading: list[str] = field(default_factory=list)
    terms: int = 0
    most: int = 0

    async def hold(self, name: str) -> None:
        self.leading.append(name)
        self.terms += 1
        self.most = max(self.most, len(self.leading))
        try:
            await asyncio.Event().wait()
        finally:
            self.leading.remove(name)


@asynccontextmanager
async def standing(
    kubeconfig: Path, namespace: str, name: str, office: Office, timing: LeaseTiming
) -> AsyncIterator[asyncio.Task[None]]:
    """A candidate; cancelling its task is stopping in good order."""
    client = await ClientApi.connect(kubeconfig)
    election = Election(client, namespace=namespace, name="test", timing=timing, on_leading=lambda _: None)
    task = asyncio.create_task(election.run(lambda: office.hold(name)), name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


def leads(office: Office, name: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return office.leading == [name]

    return look


async def lease(api: KubernetesApi, namespace: str, name: str = "test") -> Resource:
    found = await api.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")
    spec: Resource = found["spec"]
    return spec


async def test_who_stops_in_good_order_is_followed_at_once(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    office = Office()
    async with standing(cluster.kubeconfig, namespace, "first", office, LONG) as first:
        await eventually(leads(office, "first"), "the first leads")
        held = await lease(api, namespace)
        assert (held["leaseDurationSeconds"], held["leaseTransitions"]) == (60, 0)
        async with standing(cluster.kubeconfig, namespace, "second", office, LONG):
            first.cancel()
            await eventually(leads(office, "second"), "the second leads")  # within less than the minute
            taken = await lease(api, namespace)
            assert taken["holderIdentity"] not in ("", held["holderIdentity"])
            assert taken["leaseTransitions"] == 1
    assert (await lease(api, namespace))["holderIdentity"] == ""


async def test_many_candidates_have_one_leader_at_a_time(cluster: Cluster, namespace: str) -> None:
    office = Office()
    async with asyncio.timeout(60):
        stack = [standing(cluster.kubeconfig, namespace, str(number), office, LONG) for number in range(6)]
        tasks = [await each.__aenter__() for each in stack]
        try:
            for term in range(1, 6):
                while office.terms < term:
                    await asyncio.sleep(0.01)
                [leader] = office.leading
                tasks[int(leader)].cancel()
                await asyncio.gather(tasks[int(leader)], return_exceptions=True)
        finally:
            for each in stack:
                await each.__aexit__(None, None, None)
    assert office.most == 1


async def test_a_leader_that_is_cut_off_stops_before_another_begins(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    office = Office()
    timing = LeaseTiming(duration_s=3.0, renew_deadline_s=1.0, retry_s=0.1)
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)
        async with standing(kubeconfig, namespace, "cut off", office, timing):
            await eventually(leads(office, "cut off"), "it leads")
            async with standing(cluster.kubeconfig, namespace, "other", office, timing):
                proxy.cut_after(0)
                proxy.cut_all()

                async def nobody() -> bool:
                    return not office.leading

                await eventually(nobody, "it has stopped")
                stopped_s = time.monotonic()
                await eventually(leads(office, "other"), "the other leads")
                # It had to wait for what was left of the Lease.
                assert time.monotonic() - stopped_s > 0.5
                proxy.stop_cutting()
    assert office.most == 1


async def test_a_deleted_lease_is_recreated_by_its_holder(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    office = Office()
    async with standing(cluster.kubeconfig, namespace, "only", office, LONG):
        await eventually(leads(office, "only"), "it leads")
        await api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/test")
        await eventually(lambda: lease(api, namespace), "the Lease is there again")
    assert office.terms == 1


async def test_of_two_control_planes_one_writes_and_when_it_is_killed_the_other_does(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    await install_crds(api)
    with (
        replica_process(cluster.kubeconfig, namespace, tmp_path / "a") as one,
        replica_process(cluster.kubeconfig, namespace, tmp_path / "b") as two,
    ):
        first = await written(api, namespace, "first")
        [leader] = [each for each in (one, two) if each.leads]
        [follower] = [each for each in (one, two) if not each.leads]
        assert writes(leader) >= 1
        assert writes(follower) == 0

        killed_s = time.monotonic()
        leader.process.process.send_signal(signal.SIGKILL)
        await written(api, namespace, "second")
        # Not before the Lease had run out, the end of which a renewal just before may have put off.
        assert time.monotonic() - killed_s > QUICK.lease.duration_s - 2 * QUICK.lease.retry_s
        assert follower.leads
        assert writes(follower) >= 1
        path = f"{NETWORKING}/namespaces/{namespace}/virtualservices/first"
        assert (await api.get(path))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def writes(of: ReplicaProcess) -> float:
    return of.metric("outrigger_status_writes_total")


async def written(api: KubernetesApi, namespace: str, name: str) -> Resource:
    """A new resource, once it has a status."""
    path = f"{NETWORKING}/namespaces/{namespace}/virtualservices"
    await api.create(path, virtual_service(name, f"{name}.{namespace}.example.com"))

    async def look() -> Resource | None:
        found = await api.get(f"{path}/{name}")
        return found if "status" in found else None

    return await eventually(look, f"the status of {name}")
