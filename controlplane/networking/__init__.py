"""Pure builders: (snapshot, proxy) -> listeners, routes, clusters, endpoints.

How a VirtualService becomes a route, top down: `build` is asked for a route configuration, `scope` says which
services and policies the proxy sees, `virtual_hosts` makes a virtual host of each service, `routes` what
happens to a request that `route_match` matches, `destinations` which cluster takes it. `l4_routes` and
`outbound_listeners` do the same for connections. `clusters`, with what `destination_rules` says as
`traffic_policy`, and `endpoints` are the other end. `inbound` and `inbound_listeners` are the workload's own
side, and `grpc` is all of it for clients without a sidecar. `build_cache` lets proxies share equal results.
"""

from controlplane.networking.build import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.names import endpoints_hostname
from controlplane.networking.scope import SidecarScope, scope_of

__all__ = [
    "BuildCache",
    "SidecarScope",
    "build_clusters",
    "build_endpoints",
    "build_listeners",
    "build_routes",
    "endpoints_hostname",
    "scope_of",
]
