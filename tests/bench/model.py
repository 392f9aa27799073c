"""The control plane's pure half: from resources to a snapshot, and from a snapshot to xDS resources."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from controlplane.kinds.registry import KINDS
from controlplane.model.store import Store
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.bench.figures import figure, timed
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    feed,
    service,
    virtual_service,
    workload,
)
from tests.support.large_mesh import ENDPOINTS, SERVICES, cluster_name, large_snapshot
from tests.support.meshes import sidecar_proxy


def resources() -> Iterator[Document]:
    for number in range(SERVICES):
        name = f"s{number}"
        yield service(name)
        yield destination_rule(name, name, "v1")
        yield virtual_service(name, [name], destination(name, "v1"))
        for replica in range(ENDPOINTS):
            address = f"10.{number >> 8}.{number & 255}.{replica + 1}"
            yield workload(f"{name}-{replica}", address, {"app": name, "version": "v1"})


def snapshots() -> None:
    store = Store(KINDS)
    feed(store, *resources())
    with timed("a snapshot of all resources", time.process_time):
        store.build()
    feed(store, workload("s7-3", "10.9.9.9", {"app": "s7", "version": "v1"}))
    with timed("the next one, after a change of one endpoint", time.process_time):
        store.build()


def builders() -> None:
    cache, snapshot, proxy = BuildCache(), large_snapshot(), sidecar_proxy()
    with timed("clusters, listeners and routes of a sidecar", time.process_time):
        build_clusters(cache, snapshot, proxy)
        build_listeners(cache, snapshot, proxy)
        build_routes(cache, snapshot, proxy, ["9080", "http_proxy"])

    def endpoints_ms(number: int) -> float:
        start_s = time.process_time()
        build_endpoints(cache, snapshot, proxy, [cluster_name(number)])
        return (time.process_time() - start_s) * 1000

    figure(
        "endpoints of one service, the median", statistics.median(map(endpoints_ms, range(200))), "ms of CPU"
    )


CASES = {"snapshots": snapshots, "builders": builders}
