"""The interface between the xDS server, which knows the protocol, and the builders, which know the mesh."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from google.protobuf.message import Message

from controlplane.model.proxy import Proxy, ProxyType
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import (
    BuildCache,
    build_clusters,
    build_endpoints,
    build_listeners,
    build_names,
    build_routes,
    endpoints_hostname,
    scope_of,
)
from protos import type_urls


class Generator(Protocol):
    """Builds resources. Pure. It should return the same message object for an unchanged resource, and for a
    resource that is equal for several proxies."""

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        """Returns the resources by name. If ``names`` is None, returns all resources of the type that the
        proxy needs (listeners, clusters and the name table only). Omits names that do not exist."""

    def endpoints_hostname(self, name: str) -> str:
        """Returns the hostname of the service whose endpoints the load assignment ``name`` contains."""

    def dials(self, snapshot: MeshSnapshot, proxy: Proxy, hostnames: AbstractSet[str]) -> bool:
        """Whether the proxy's listeners, routes, clusters or name table contain addresses of one of these
        headless services."""


class MeshGenerator:
    """Calls the builders of `controlplane.networking`."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache: Final = cache

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        if type_url == type_urls.CLUSTER:
            return build_clusters(self._cache, snapshot, proxy, names)
        if type_url == type_urls.LISTENER:
            return build_listeners(self._cache, snapshot, proxy, names)
        if type_url == type_urls.NAME_TABLE:
            return build_names(self._cache, snapshot, proxy)
        # These types have no wildcard: the proxy's listeners and clusters name the ones that it
        # needs.
        build = build_endpoints if type_url == type_urls.ENDPOINT else build_routes
        return build(self._cache, snapshot, proxy, names or ())

    def endpoints_hostname(self, name: str) -> str:
        return endpoints_hostname(name)

    def dials(self, snapshot: MeshSnapshot, proxy: Proxy, hostnames: AbstractSet[str]) -> bool:
        is_sidecar = proxy.type is ProxyType.SIDECAR
        return is_sidecar and not hostnames.isdisjoint(scope_of(self._cache, snapshot, proxy).services)
