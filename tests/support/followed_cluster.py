"""A store that follows a cluster, and the contents of a store that has just listed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from prometheus_client import CollectorRegistry

from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.api import ClientApi
from controlplane.kubernetes.backoff import Backoff
from controlplane.kubernetes.list_watch import Timing
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.status import ResourceStatus
from controlplane.model.store import Store
from controlplane.sources.kubernetes import KubernetesSource

DEADLINE_S = 45.0
QUICK = Timing(backoff=Backoff(first_delay_s=0.02, longest_delay_s=0.5), absence_s=1.0)


class Follower:
    def __init__(self, api: ClientApi, timing: Timing = QUICK) -> None:
        self.store = Store(KINDS)
        self.registry = CollectorRegistry()
        self._changed = asyncio.Event()
        self.source = KubernetesSource(
            api,
            self.store,
            self._changed.set,
            dns_domain="cluster.local",
            registry=self.registry,
            timing=timing,
        )

    def snapshot(self) -> MeshSnapshot:
        """The current snapshot without its number: equal for two followers of one cluster."""
        return replace(self.store.build()[0], generation=0)

    async def until(self, holds: Callable[[MeshSnapshot], object], what: str) -> MeshSnapshot:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    self._changed.clear()
                    snapshot = self.snapshot()
                    if holds(snapshot):
                        return snapshot
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: not within {DEADLINE_S} s; last seen: {self.snapshot()}") from None

    def status_of(self, kind: str, namespace: str, name: str) -> ResourceStatus:
        self.store.build()
        sought = (kind, namespace, name)
        statuses = self.store.statuses()
        return next(each for each in statuses if (each.key.kind, each.key.namespace, each.key.name) == sought)

    def staleness_s(self, kind: str) -> float:
        found = self.registry.get_sample_value("outrigger_kubernetes_seconds_since_sync", {"kind": kind})
        assert found is not None
        return found


@asynccontextmanager
async def follower(kubeconfig: Path, timing: Timing = QUICK) -> AsyncIterator[Follower]:
    api = await ClientApi.connect(kubeconfig)
    following = Follower(api, timing)
    try:
        await following.source.start()
        yield following
    finally:
        await following.source.close()
        await api.close()


async def fresh_list(kubeconfig: Path) -> MeshSnapshot:
    async with follower(kubeconfig) as fresh:
        return fresh.snapshot()


def server_of(kubeconfig: Path) -> tuple[str, int]:
    url = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    assert url.hostname is not None
    assert url.port is not None
    return url.hostname, url.port


def by_way_of(kubeconfig: Path, port: int, folder: Path) -> Path:
    """The same kubeconfig, but for the API server's port."""
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    changed = folder / "kubeconfig"
    changed.write_text(yaml.safe_dump(document))
    return changed
