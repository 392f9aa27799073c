"""``/clusters``: every cluster, its limits and its hosts, as Envoy's text and as ``admin.v3.Clusters``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecar.admin.answers import Query, json_page, page, wanted_format, wanted_names
from sidecar.admin.state import AdminView
from sidecar.config.cluster import CircuitBreakers, Discovery
from sidecar.config.endpoint import HealthStatus
from sidecar.http.message import Response
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.host import Host

# Envoy shows the thresholds of both priorities; this proxy knows the default one.
_THRESHOLDS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
# -1: hosts are not ejected for their success rates, so that none is computed.
_SUCCESS_RATES = (
    "outlier::success_rate_average::-1",
    "outlier::success_rate_ejection_threshold::-1",
    "outlier::local_origin_success_rate_average::-1",
    "outlier::local_origin_success_rate_ejection_threshold::-1",
)
_GAUGES = frozenset({"cx_active", "rq_active"})


def clusters(view: AdminView, query: Query) -> Response:
    """``?format=text|json``, ``?filter=REGEX`` (RE2, anywhere in the name)."""
    pattern = wanted_names(query)
    shown = [cluster for cluster in view.clusters if pattern is None or pattern.search(cluster.name)]
    if wanted_format(query, "text", "json") == "json":
        return json_page("cluster_statuses", ([_status(cluster, view)] for cluster in shown))
    return page(f"{cluster.name}::{line}\n" for cluster in shown for line in _lines(cluster, view))


def _lines(cluster: Cluster, view: AdminView) -> Iterator[str]:
    yield f"observability_name::{cluster.name}"
    if cluster.outlier_detector is not None:
        yield from _SUCCESS_RATES
    limits = cluster.config.circuit_breakers
    for threshold in _THRESHOLDS:
        yield f"default_priority::{threshold}::{getattr(limits, threshold)}"
    yield f"added_via_api::{str(view.is_dynamic(cluster.name)).lower()}"
    if cluster.config.discovery is Discovery.EDS:
        yield f"eds_service_name::{cluster.config.eds_service_name or cluster.name}"
    for host in cluster.hosts.values():
        for name, value in _host_facts(host):
            yield f"{host.address}::{name}::{value}"


def _host_facts(host: Host) -> Iterator[tuple[str, object]]:
    yield from host.stats.items()
    endpoint = host.endpoint
    yield "hostname", endpoint.hostname
    yield "health_flags", host.health_flags
    yield "weight", host.weight
    yield "region", endpoint.locality.region
    yield "zone", endpoint.locality.zone
    yield "sub_zone", endpoint.locality.sub_zone
    yield "canary", "false"
    yield "priority", endpoint.priority
    yield "success_rate", -1
    yield "local_origin_success_rate", -1


def _status(cluster: Cluster, view: AdminView) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": cluster.name,
        "observability_name": cluster.name,
        "added_via_api": view.is_dynamic(cluster.name),
        "circuit_breakers": {"thresholds": [_thresholds(cluster.config.circuit_breakers)]},
        "host_statuses": [_host_status(host) for host in cluster.hosts.values()],
    }
    if cluster.config.discovery is Discovery.EDS:
        status["eds_service_name"] = cluster.config.eds_service_name or cluster.name
    return status


def _thresholds(limits: CircuitBreakers) -> dict[str, Any]:
    return {"priority": "DEFAULT", **{name: getattr(limits, name) for name in _THRESHOLDS}}


def _host_status(host: Host) -> dict[str, Any]:
    endpoint = host.endpoint
    health: dict[str, Any] = {"eds_health_status": _eds_health(endpoint.health)}
    if host.ejected:
        health["failed_outlier_check"] = True
    address = {"address": endpoint.address.host, "port_value": endpoint.address.port}
    locality = {
        name: value
        for name, value in (
            ("region", endpoint.locality.region),
            ("zone", endpoint.locality.zone),
            ("sub_zone", endpoint.locality.sub_zone),
        )
        if value
    }
    return {
        "address": {"socket_address": address},
        "stats": [
            {"name": name, "value": str(value), "type": "GAUGE" if name in _GAUGES else "COUNTER"}
            for name, value in host.stats.items()
        ],
        "health_status": health,
        "weight": host.weight,
        "hostname": endpoint.hostname,
        "priority": endpoint.priority,
        "locality": locality,
    }


def _eds_health(health: HealthStatus) -> str:
    # Envoy counts what is unknown as healthy, and shows it so.
    return "HEALTHY" if health is HealthStatus.UNKNOWN else health.name
