"""``/clusters``: all clusters, their limits and hosts, as Envoy's text and as ``admin.v3.Clusters``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecar.admin.answers import Query, json_page, page, wanted_format, wanted_names
from sidecar.admin.state import AdminView
from sidecar.config.cluster import CircuitBreakers, Discovery
from sidecar.config.endpoint import HealthStatus
from sidecar.http.message import Response
from sidecar.upstream.status import ClusterStatus, HostStatus

# Envoy shows the thresholds of both priorities; this proxy has only the default one.
_THRESHOLDS = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
# -1: success rates are not computed, since hosts are not ejected for them.
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
    in_json = wanted_format(query, "text", "json") == "json"
    shown = (
        status if pattern is None or pattern.search(status.config.name) else None
        for status in view.worker.clusters()
    )
    if in_json:
        items = ([] if status is None else [_cluster_json(status, view)] for status in shown)
        return json_page("cluster_statuses", items)
    return page(line for status in shown for line in _text(status, view))


def _text(status: ClusterStatus | None, view: AdminView) -> Iterator[str]:
    if status is None:
        yield ""  # the page may pause here
    else:
        yield from (f"{status.config.name}::{line}\n" for line in _lines(status, view))


def _lines(status: ClusterStatus, view: AdminView) -> Iterator[str]:
    config = status.config
    yield f"observability_name::{config.name}"
    if config.outlier_detection is not None:
        yield from _SUCCESS_RATES
    for threshold in _THRESHOLDS:
        yield f"default_priority::{threshold}::{getattr(config.circuit_breakers, threshold)}"
    yield f"added_via_api::{str(view.is_dynamic(config.name)).lower()}"
    if config.discovery is Discovery.EDS:
        yield f"eds_service_name::{config.eds_service_name or config.name}"
    for host in status.hosts:
        for name, value in _host_facts(host):
            yield f"{host.endpoint.address}::{name}::{value}"


def _host_facts(host: HostStatus) -> Iterator[tuple[str, object]]:
    yield from host.stats.items()
    endpoint = host.endpoint
    yield "hostname", endpoint.hostname
    yield "health_flags", host.health_flags
    yield "weight", endpoint.weight
    yield "region", endpoint.locality.region
    yield "zone", endpoint.locality.zone
    yield "sub_zone", endpoint.locality.sub_zone
    yield "canary", "false"
    yield "priority", endpoint.priority
    yield "success_rate", -1
    yield "local_origin_success_rate", -1


def _cluster_json(status: ClusterStatus, view: AdminView) -> dict[str, Any]:
    config = status.config
    document: dict[str, Any] = {
        "name": config.name,
        "observability_name": config.name,
        "added_via_api": view.is_dynamic(config.name),
        "circuit_breakers": {"thresholds": [_thresholds(config.circuit_breakers)]},
        "host_statuses": [_host_json(host) for host in status.hosts],
    }
    if config.discovery is Discovery.EDS:
        document["eds_service_name"] = config.eds_service_name or config.name
    return document


def _thresholds(limits: CircuitBreakers) -> dict[str, Any]:
    return {"priority": "DEFAULT", **{name: getattr(limits, name) for name in _THRESHOLDS}}


def _host_json(host: HostStatus) -> dict[str, Any]:
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
        "weight": endpoint.weight,
        "hostname": endpoint.hostname,
        "priority": endpoint.priority,
        "locality": locality,
    }


def _eds_health(health: HealthStatus) -> str:
    # Envoy counts an unknown health as healthy, and shows it so.
    return "HEALTHY" if health is HealthStatus.UNKNOWN else health.name
