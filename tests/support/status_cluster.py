"""A table in place of the API server, and a status writer that writes to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import KubernetesError, RefusedError
from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.backoff import Backoff
from controlplane.model.proxy import ProxyProgress
from controlplane.model.service import Registry, Workload
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store
from controlplane.networking.build_cache import BuildCache
from controlplane.status.ledger import Document, Ledger
from controlplane.status.metrics import StatusMetrics
from controlplane.status.writer import StatusInputs, StatusTiming, StatusWriter
from tests.support.documents import document, key_of
from tests.support.meshes import sidecar_proxy

BACKOFF = Backoff(first_delay_s=8.0, longest_delay_s=20.0)


TIMING = StatusTiming(reconnect_s=0.0, backoff=BACKOFF)


ROUTES = "/apis/networking.istio.io/v1/namespaces/default/virtualservices"


PROXY = sidecar_proxy()


class Cluster:
    """Objects by path, and a control plane that follows them."""

    def __init__(self, timing: StatusTiming = TIMING) -> None:
        self.objects: dict[str, Document] = {}
        self.merges: list[str] = []
        self.fails: dict[str, KubernetesError] = {}  # by path
        self.answering: Callable[[], None] = lambda: None
        self.running = self.most_running = 0
        self.now_s = 1000.0
        self.proxies: list[ProxyProgress] = []
        self.store, self.ledger = Store(KINDS), Ledger()
        self.registry = CollectorRegistry()
        inputs = self.inputs(progress=lambda: self.proxies)
        metrics = StatusMetrics(self.registry)
        self.writer = StatusWriter(
            self, self.ledger, inputs, metrics, timing=timing, clock=lambda: self.now_s
        )

    def inputs(self, **replaced: Any) -> StatusInputs:
        known = {
            "statuses": self.store.statuses,
            "status_changes": self.store.status_changes,
            "in_force": self.store.in_force,
            "progress": list,
            "cache": BuildCache(),
        }
        return StatusInputs(**{**known, **replaced})

    def put(self, *resources: Document) -> None:
        """The cluster has a new generation of each, and the watch reports it."""
        for each in resources:
            before = self.objects.get(self.path(each), {"metadata": {}})["metadata"]
            generation, version = before.get("generation", 0) + 1, int(before.get("resourceVersion", 0)) + 1
            each["metadata"] |= {"generation": generation, "resourceVersion": str(version)}
            self.objects[self.path(each)] = each
            self.tell(each)
            origin = Origin(file="Kubernetes", generation=generation)
            self.store.apply(key_of(each), KINDS.parse(each), origin)
        self.build()

    def tell(self, resource: Document) -> None:
        self.ledger.note(key_of(resource), resource)

    def build(self) -> None:
        self.ledger.publish(*self.store.build(), self.store.in_force)

    def path(self, resource: Document) -> str:
        plural, name = KINDS[resource["kind"]].plural, resource["metadata"]["name"]
        return f"/apis/{resource['apiVersion']}/namespaces/default/{plural}/{name}"

    def status(self, name: str) -> Document:
        found: Document = self.objects[f"{ROUTES}/{name}"].get("status", {})
        return found

    def programmed(self, name: str) -> str:
        conditions = self.status(name)["conditions"]
        [value] = [each["status"] for each in conditions if each["type"] == "Programmed"]
        return str(value)

    def observe_pod(self, name: str, *, ready: bool) -> None:
        """The cluster has a pod with a sidecar."""
        pod = Workload(
            name=name,
            namespace="default",
            address="",
            mesh_tls=True,
            healthy=ready,
            registry=Registry.KUBERNETES,
        )
        self.store.observe(ResourceKey(kind="Pod", namespace="default", name=name), pod)

    async def write(self) -> list[str]:
        """Polls once. Returns the names of the attempted writes."""
        self.merges.clear()
        async with asyncio.timeout(5):
            await self.writer.write_what_differs(self.proxies)
        return sorted(self.merges)

    def count(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"kind": "VirtualService"}) or 0.0

    async def get(self, path: str, query: Mapping[str, str]) -> Document:
        """What is left of the name that the query selects."""
        if path in self.fails:
            raise self.fails[path]
        found = self.objects.get(f"{path}/{query['fieldSelector'].removeprefix('metadata.name=')}")
        return {"items": [found] if found else []}

    async def merge(self, path: str, document: Document) -> Document:
        path = path.removesuffix("/status")
        self.merges.append(path.rpartition("/")[2])
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if path in self.fails:
            raise self.fails[path]
        if path not in self.objects:
            raise RefusedError(404, "not found")
        found = self.objects[path]
        version = found["metadata"]["resourceVersion"]
        if document["metadata"]["resourceVersion"] != version:
            raise RefusedError(409, "the object has been modified")
        status = {**found.get("status", {}), **document["status"]}
        metadata = {**found["metadata"], "resourceVersion": str(int(version) + 1)}
        self.objects[path] = {**found, "metadata": metadata, "status": status}
        self.answering()
        return self.objects[path]


def route(name: str, status: int = 200) -> Document:
    spec = {"hosts": [f"{name}.example.com"], "http": [{"directResponse": {"status": status}}]}
    return document("VirtualService", name, spec)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "controlplane.status.writer"]
