"""The configuration of the two sidecars, as xDS resources.

client -> outbound -> mTLS -> inbound, a listener for each application -> application
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    downstream_tls,
    eds_cluster,
    http_connection_manager,
    listener,
    rds,
    static_cluster,
    tcp_proxy,
    upstream_tls,
)

Document = dict[str, Any]
IDLE_S = 2
"""After which connections close that nobody uses: in the end, all."""
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_RETRIES: Document = {
    "retry_on": "5xx,reset,connect-failure,refused-stream,unavailable,cancelled,internal",
    "num_retries": 6,
    "per_try_timeout": "3s",
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    "retry_host_predicate": [
        {
            "name": _PREVIOUS_HOSTS,
            "typed_config": {
                "@type": f"{TYPE}/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    # Enough to find the only host that was not tried.
    "host_selection_retry_max_attempts": "40",
}
_UPGRADES: Document = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
_EXTENDED_CONNECT: Document = {"http2_protocol_options": {"allow_connect": True}}
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFields:
    """Those of outbound clusters that change."""

    lb_policy: str = "ROUND_ROBIN"
    connect_timeout: str = "5s"


def outbound_cluster(name: str, tls: Document, fields: ClusterFields, *, http2: bool | None) -> Document:
    """`http2` is None for TCP."""
    document = eds_cluster(name, lb_policy=fields.lb_policy, connect_timeout=fields.connect_timeout)
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    document["circuit_breakers"] = {"thresholds": [dict.fromkeys(limits, _NO_LIMIT)]}
    alpn = {} if http2 is None else {"alpn_protocols": ["h2" if http2 else "http/1.1"]}
    document["transport_socket"] = upstream_tls(**tls, **alpn)
    if http2 is not None:
        document["outlier_detection"] = {
            "consecutive_5xx": 5,
            "interval": "0.5s",
            "base_ejection_time": "1s",
            "max_ejection_time": "2s",
            "max_ejection_percent": 50,
        }
        document["typed_extension_protocol_options"] = _http_options(http2=http2)
    return document


def _http_options(*, http2: bool) -> Document:
    options = {
        "@type": f"{TYPE}/{HTTP_OPTIONS}",
        "common_http_protocol_options": {"idle_timeout": f"{IDLE_S}s"},
        "explicit_http_config": {"http2_protocol_options" if http2 else "http_protocol_options": {}},
    }
    return {HTTP_OPTIONS: options}


def application_cluster(name: str, port: int, *, http2: bool | None) -> Document:
    document = static_cluster(name, port)
    if http2 is not None:
        document["typed_extension_protocol_options"] = _http_options(http2=http2)
    limits = ("max_connections", "max_pending_requests", "max_requests")
    document["circuit_breakers"] = {"thresholds": [dict.fromkeys(limits, _NO_LIMIT)]}
    return document


def outbound_routes(weights: Sequence[tuple[str, int]], header: str) -> Document:
    """`weights` are those of the clusters for everything but gRPC."""
    web: Document = {"weighted_clusters": {"clusters": [{"name": n, "weight": w} for n, w in weights]}}
    routes = [
        _route("/soak.", {"cluster": "grpc"}, header),
        _route("/", web, header),
    ]
    return {"name": "outbound", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}


def _route(prefix: str, target: Document, header: str) -> Document:
    return {
        "match": {"prefix": prefix},
        "route": {**target, "timeout": "0s", "retry_policy": _RETRIES},
        "request_headers_to_add": [{"header": {"key": "x-version", "value": header}}],
    }


def outbound_listener(port: int, generation: int) -> Document:
    manager = http_connection_manager(
        rds=rds("outbound"), **_UPGRADES, **_EXTENDED_CONNECT, stream_idle_timeout=f"{600 + generation}s"
    )
    return {**listener("outbound", manager, port), "traffic_direction": "OUTBOUND"}


def inbound_listener(
    application: str, port: int, tls: Document, generation: int, *, proxied: bool
) -> Document:
    """`proxied`: TCP."""
    name = f"{application}-{'tcp' if proxied else 'web'}"
    if proxied:
        document = listener(name, tcp_proxy(name), port)
    else:
        manager = http_connection_manager(
            route_config=_inbound_routes(application),
            **_UPGRADES,
            **_EXTENDED_CONNECT,
            stream_idle_timeout=f"{600 + generation}s",
        )
        document = listener(name, manager, port)
    alpn = {} if proxied else {"alpn_protocols": ["h2", "http/1.1"]}
    socket = downstream_tls(**tls, **alpn)
    socket["typed_config"]["require_client_certificate"] = True
    document["filter_chains"][0]["transport_socket"] = socket
    return {**document, "traffic_direction": "INBOUND"}


def _inbound_routes(application: str) -> Document:
    routes = [
        {"match": {"prefix": "/soak."}, "route": {"cluster": f"{application}-grpc", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": f"{application}-http", "timeout": "0s"}},
    ]
    return {"name": application, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}
