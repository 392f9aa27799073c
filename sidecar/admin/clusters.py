"""``/clusters``: all clusters, their limits and hosts, as Envoy's text and as ``admin.v3.Clusters``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from sidecar.admin.answers import Query, json_page, page, wanted_format, wanted_names
from sidecar.admin.state import AdminView
from sidecar.config.cluster import CircuitBreakers, ClusterConfig, Discovery
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
_BATCH = 20


async def clusters(view: AdminView, query: Query) -> Response:
    """``?format=text|json``, ``?filter=REGEX`` (RE2, anywhere in the name)."""
    pattern = wanted_names(query)
    in_json = wanted_format(query, "text", "json") == "json"
    configs = view.clusters()
    names = [name for name in configs if pattern is None or pattern.search(name)]
    # Before the page begins: if a worker does not answer, the client learns it by the status.
    first = await view.workers.clusters(names[:_BATCH])
    shown = _statuses(view, names, first)
    if in_json:
        return json_page(
            "cluster_statuses",
            ([_cluster_json(status, configs[status.name], view)] async for status in shown),
        )
    return page(
        f"{status.name}::{line}\n"
        async for status in shown
        for line in _lines(status, configs[status.name], view)
    )


async def _statuses(
    view: AdminView, names: list[str], first: Sequence[ClusterStatus]
) -> AsyncIterator[ClusterStatus]:
    """A few at a time: to report thousands of hosts at once would hold up a worker's traffic."""
    for status in first:
        yield status
    for start in range(_BATCH, len(names), _BATCH):
        for status in await view.workers.clusters(names[start : start + _BATCH]):
            yield status


def _lines(status: ClusterStatus, config: ClusterConfig, view: AdminView) -> Iterator[str]:
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


def _cluster_json(status: ClusterStatus, config: ClusterConfig, view: AdminView) -> dict[str, Any]:
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
