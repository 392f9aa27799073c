"""The resources that proxies hold, and those that a new stream would be sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import (
    build_clusters,
    build_endpoints,
    build_listeners,
    build_names,
    build_routes,
)
from controlplane.networking.build_cache import BuildCache
from protos import type_urls
from tests.support.following_proxies import Held, endpoint_names, route_names


def at_once(snapshot: MeshSnapshot, proxy: Proxy) -> Held:
    cache = BuildCache()
    clusters, listeners = (
        build_clusters(cache, snapshot, proxy),
        build_listeners(cache, snapshot, proxy),
    )
    held: dict[str, Any] = {
        type_urls.CLUSTER: clusters,
        type_urls.LISTENER: listeners,
        type_urls.ENDPOINT: build_endpoints(cache, snapshot, proxy, endpoint_names(clusters.values())),
        type_urls.ROUTE: build_routes(cache, snapshot, proxy, route_names(listeners.values())),
        type_urls.NAME_TABLE: build_names(cache, snapshot, proxy),
    }
    return held


def differences(held: Held, expected: Held) -> Iterator[str]:
    """The resources that differ, by type and name."""
    for type_url, short in type_urls.SHORT_NAMES.items():
        for name in held[type_url].keys() | expected[type_url].keys():
            if held[type_url].get(name) != expected[type_url].get(name):
                yield f"{short} {name}"
