"""What each kind of proxy is sent: the entry points of the builders.

All are pure and synchronous, and their results are in a stable order. What did not change since the snapshot
before, or is the same for another proxy, is the same message object: callers must not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.model.proxy import Proxy, ProxyType
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.clusters import outbound_clusters
from controlplane.networking.endpoints import outbound_endpoints
from controlplane.networking.grpc import (
    grpc_clusters,
    grpc_listeners,
    grpc_route_config,
    no_grpc_endpoints,
)
from controlplane.networking.headless import headless_endpoints
from controlplane.networking.inbound import inbound_clusters
from controlplane.networking.inbound_listeners import inbound_listeners
from controlplane.networking.outbound_listeners import explicit_proxy_port, outbound_listeners
from controlplane.networking.own_workload import own_workload_metadata
from controlplane.networking.scope import scope_of
from controlplane.networking.virtual_hosts import outbound_route_config

MessageT = TypeVar("MessageT")


def build_listeners(
    snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None = None
) -> dict[str, Listener]:
    """``names`` None: all that the proxy needs. gRPC's client always asks by name."""
    scope = scope_of(snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return grpc_listeners(scope, names)
    own = own_workload_metadata(snapshot, proxy)
    headless = headless_endpoints(scope, endpoints=snapshot.endpoints)
    listeners = {
        **outbound_listeners(scope, headless, proxy, own),
        **inbound_listeners(snapshot, proxy, own),
    }
    return _named(listeners, names)


def build_clusters(
    snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str] | None = None
) -> dict[str, Cluster]:
    """``names`` None: all that the proxy needs. gRPC's client always asks by name."""
    scope = scope_of(snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return grpc_clusters(scope, names)
    outbound = outbound_clusters(
        scope,
        snapshot.peer_authentications,
        endpoints_by_host=snapshot.endpoints,
        explicit=explicit_proxy_port(scope, proxy) != 0,
    )
    return _named({**outbound, **inbound_clusters(snapshot, proxy)}, names)


def build_routes(
    snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str]
) -> dict[str, RouteConfiguration]:
    """The route configurations that listeners name; names that do not exist are left out."""
    scope = scope_of(snapshot, proxy)
    if proxy.type is ProxyType.GRPC:
        return _built(lambda name: grpc_route_config(scope, name), names)
    headless = headless_endpoints(scope, endpoints=snapshot.endpoints)
    return _built(lambda name: outbound_route_config(scope, name, headless=headless), names)


def build_endpoints(
    snapshot: MeshSnapshot, proxy: Proxy, names: Collection[str]
) -> dict[str, ClusterLoadAssignment]:
    """The load assignments of the EDS clusters of these names; names that do not exist are left out."""
    assignments = _built(lambda name: outbound_endpoints(snapshot, proxy, name), names)
    if proxy.type is not ProxyType.GRPC:
        return assignments
    return {**_built(no_grpc_endpoints, names), **assignments}


def _named(resources: Mapping[str, MessageT], names: Collection[str] | None) -> dict[str, MessageT]:
    if names is None:
        return dict(resources)
    return {name: resources[name] for name in sorted(names) if name in resources}


def _built(build: Callable[[str], MessageT | None], names: Collection[str]) -> dict[str, MessageT]:
    built = ((name, build(name)) for name in sorted(names))
    return {name: message for name, message in built if message is not None}
