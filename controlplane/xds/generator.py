"""Where resources come from: the server knows the wire, the builders know the mesh."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

from google.protobuf.message import Message

from controlplane.model.proxy import Proxy, ProxyType
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import (
    build_clusters,
    build_endpoints,
    build_listeners,
    build_routes,
    endpoints_hostname,
    scope_of,
)
from protos import type_urls


class Generator(Protocol):
    """Pure. What did not change, or is the same for another proxy, should be the same message object."""

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        """The resources by name. ``names`` None: all of the type that the proxy needs (listeners and clusters
        only). Names that do not exist are left out."""

    def endpoints_hostname(self, name: str) -> str:
        """The service whose endpoints the load assignment ``name`` holds."""

    def dials(self, snapshot: MeshSnapshot, proxy: Proxy, hostnames: AbstractSet[str]) -> bool:
        """Whether the proxy is sent addresses of one of these headless services in other resources than load
        assignments."""


class MeshGenerator:
    """The mesh's own builders."""

    def build(
        self, type_url: str, snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None
    ) -> Mapping[str, Message]:
        if type_url == type_urls.CLUSTER:
            return build_clusters(snapshot, proxy, names)
        if type_url == type_urls.LISTENER:
            return build_listeners(snapshot, proxy, names)
        # Nobody may ask for all of these: the listeners and clusters say which are needed.
        build = build_endpoints if type_url == type_urls.ENDPOINT else build_routes
        return build(snapshot, proxy, names or ())

    def endpoints_hostname(self, name: str) -> str:
        return endpoints_hostname(name)

    def dials(self, snapshot: MeshSnapshot, proxy: Proxy, hostnames: AbstractSet[str]) -> bool:
        is_sidecar = proxy.type is ProxyType.SIDECAR
        return is_sidecar and not hostnames.isdisjoint(scope_of(snapshot, proxy).services)
