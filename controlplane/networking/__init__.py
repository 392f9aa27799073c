"""Pure builders: (snapshot, proxy) -> listeners, routes, clusters, endpoints.

How a VirtualService becomes a route, top down: `build` gets a request for a route configuration. `scope`
selects the services and policies that the proxy sees. `virtual_hosts` makes a virtual host of each service,
`routes` the actions of its routes, `route_match` their matches, and `destinations` their clusters.
`l4_routes` and `outbound_listeners` do the same for connections. `clusters`, with the `traffic_policy` of
`destination_rules`, and `endpoints` are the upstream side. `inbound` and `inbound_listeners` are the
workload's own side, and `grpc` builds everything for clients without a sidecar. `name_table` has the names
that a sidecar resolves, and `automatic_addresses` the addresses of hosts that have none. `build_cache` lets
proxies share equal results.
"""

from controlplane.networking.build import (
    build_clusters,
    build_endpoints,
    build_listeners,
    build_names,
    build_routes,
)
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.names import endpoints_hostname
from controlplane.networking.scope import SidecarScope, scope_of

__all__ = [
    "BuildCache",
    "SidecarScope",
    "build_clusters",
    "build_endpoints",
    "build_listeners",
    "build_names",
    "build_routes",
    "endpoints_hostname",
    "scope_of",
]
