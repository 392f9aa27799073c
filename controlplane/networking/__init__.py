"""Pure builders: (snapshot, proxy) -> listeners, routes, clusters, endpoints."""

from controlplane.networking.build import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.memo import forget_unused
from controlplane.networking.names import endpoints_hostname
from controlplane.networking.scope import SidecarScope, scope_of

__all__ = [
    "SidecarScope",
    "build_clusters",
    "build_endpoints",
    "build_listeners",
    "build_routes",
    "endpoints_hostname",
    "forget_unused",
    "scope_of",
]
