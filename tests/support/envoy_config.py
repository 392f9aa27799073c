"""A small static Envoy configuration, and ways to change one field of it, for tests of the decoder."""

from __future__ import annotations

import copy
import re
from itertools import pairwise
from typing import Any

TYPE = "type.googleapis.com"
_FILTERS = f"{TYPE}/envoy.extensions.filters"
_TLS = f"{TYPE}/envoy.extensions.transport_sockets.tls.v3"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+|[^\]]+)\]")

ABSENT = object()


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with the field at ``path`` set (lists grow by one), or taken away for `ABSENT`."""
    result = copy.deepcopy(document)
    steps = [
        int(number) if number and number.isdigit() else name or number for name, number in _STEP.findall(path)
    ]
    inner: Any = result
    for step, following in pairwise(steps):
        inner = _enter(inner, step, [] if isinstance(following, int) else {})
    if value is ABSENT:
        del inner[steps[-1]]
    elif isinstance(inner, list) and steps[-1] == len(inner):
        inner.append(value)
    else:
        inner[steps[-1]] = value
    return result


def _enter(inner: Any, step: Any, empty: Any) -> Any:
    if isinstance(inner, list):
        if step == len(inner):
            inner.append(empty)
        return inner[step]
    return inner.setdefault(step, empty)


def address(port: int, host: str = "127.0.0.1") -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def router() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
    }


def route_configuration(name: str = "routes") -> dict[str, Any]:
    action = {"cluster": "a"}
    route = {"name": "all", "match": {"prefix": "/"}, "route": action}
    return {"name": name, "virtual_hosts": [{"name": "host", "domains": ["*"], "routes": [route]}]}


def http_connection_manager(**fields: Any) -> dict[str, Any]:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "http_filters": [router()],
            **fields,
        },
    }


def tcp_proxy(cluster: str = "a") -> dict[str, Any]:
    config = {"@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": cluster}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def rds(name: str, **source: Any) -> dict[str, Any]:
    return {
        "config_source": {"ads": {}, "resource_api_version": "V3", **source},
        "route_config_name": name,
    }


def listener(name: str, filter_: dict[str, Any], port: int = 0) -> dict[str, Any]:
    return {"name": name, "address": address(port), "filter_chains": [{"filters": [filter_]}]}


def load_assignment(name: str, *ports: int, host: str = "127.0.0.1") -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": address(port, host)}} for port in ports]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def static_cluster(name: str, *ports: int) -> dict[str, Any]:
    return {"name": name, "type": "STATIC", "load_assignment": load_assignment(name, *(ports or (1,)))}


def dns_cluster(name: str, host: str = "host.test", port: int = 80, **fields: Any) -> dict[str, Any]:
    return {**static_cluster(name), "load_assignment": load_assignment(name, port, host=host), **fields} | {
        "type": fields.get("type", "STRICT_DNS")
    }


def eds_cluster(name: str, **fields: Any) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    return {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": source}, **fields}


def downstream_tls(**common: Any) -> dict[str, Any]:
    context = {"@type": f"{_TLS}.DownstreamTlsContext", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def upstream_tls(**common: Any) -> dict[str, Any]:
    context = {"@type": f"{_TLS}.UpstreamTlsContext", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def bootstrap() -> dict[str, Any]:
    """One listener on any port whose routes stand in place, and the clusters a and b."""
    manager = http_connection_manager(route_config=route_configuration())
    return {
        "node": {"id": "sidecar~127.0.0.1~pod.default~default.svc.cluster.local", "cluster": "test"},
        "static_resources": {
            "listeners": [listener("l", manager)],
            "clusters": [static_cluster("a"), static_cluster("b")],
        },
    }


# Where things stand in `bootstrap()`.
LISTENER = "static_resources.listeners[0]"
CHAIN = f"{LISTENER}.filter_chains[0]"
MANAGER = f"{CHAIN}.filters[0].typed_config"
HOST = f"{MANAGER}.route_config.virtual_hosts[0]"
ROUTE = f"{HOST}.routes[0]"
CLUSTER = "static_resources.clusters[0]"
ENDPOINT = f"{CLUSTER}.load_assignment.endpoints[0].lb_endpoints[0]"
