"""The control plane's pure half: from resources to a snapshot, and from a snapshot to xDS resources."""

from __future__ import annotations

import statistics
import time

from controlplane.kinds.registry import KINDS
from controlplane.model.store import Store
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.bench.control_plane.figures import figure, timed
from tests.support.documents import (
    feed,
    workload,
)
from tests.support.large_mesh import ENDPOINTS, SERVICES, cluster_name, large_snapshot
from tests.support.meshes import sidecar_proxy
from tests.support.stores import mesh_of


def snapshots() -> None:
    store = Store(KINDS)
    feed(store, *mesh_of(services=SERVICES, replicas=ENDPOINTS))
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
