"""The JSON documents of the debug API. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from controlplane.model.proxy import ProxyRejection
from controlplane.model.service import Service, ServiceEndpoint
from controlplane.model.snapshot import MeshSnapshot, ResourceKey
from controlplane.model.status import ResourceStatus

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

JsonObject = dict[str, Any]
Refusal = tuple[str, ProxyRejection]
Refusals = Mapping[ResourceKey, Sequence[Refusal]]

# Limits for one resource: thousands of proxies may reject it, each with a text of any length.
_MOST_REFUSALS: Final = 20
_LONGEST_REASON: Final = 1024


def syncz(streams: Iterable[DataclassInstance]) -> list[JsonObject]:
    """The open streams, as the xDS server describes them; ``proxy`` is the node's id."""
    described = map(dataclasses.asdict, streams)
    return [{"proxy": fields.pop("proxy_id")} | fields for fields in described]


def registryz(snapshot: MeshSnapshot) -> list[JsonObject]:
    """All services, sorted by hostname."""
    return [_service(service) for service in sorted(snapshot.all_services(), key=attrgetter("hostname"))]


def endpointz(snapshot: MeshSnapshot) -> list[JsonObject]:
    """The endpoints of all services, sorted by hostname. A service without endpoints is listed too."""
    return [
        {"hostname": name, "endpoints": [_endpoint(e) for e in snapshot.endpoints.get(name, ())]}
        for name in sorted(snapshot.services)
    ]


def statusz(
    statuses: Iterable[ResourceStatus], refusals: Refusals, unsupported: Iterable[DataclassInstance]
) -> JsonObject:
    """All resources: applied, or quarantined with the reasons; the first rejections by proxies; and, if any
    were found, the kinds that are not supported."""
    listing: JsonObject = {
        "resources": [
            {**_status(status), "rejections": [_refusal(*each) for each in _first(refusals, status.key)]}
            for status in statuses
        ]
    }
    if kinds := list(map(dataclasses.asdict, unsupported)):
        listing["unsupported"] = kinds
    return listing


def _first(refusals: Refusals, key: ResourceKey) -> Iterable[Refusal]:
    return refusals.get(key, ())[:_MOST_REFUSALS]


def _refusal(proxy: str, rejection: ProxyRejection) -> JsonObject:
    return {"proxy": proxy, "type": rejection.type, "reason": rejection.reason[:_LONGEST_REASON]}


def _service(service: Service) -> JsonObject:
    return {
        "hostname": service.hostname,
        "name": service.name,
        "namespace": service.namespace,
        "registry": service.registry.value,
        "resolution": service.resolution.value,
        "addresses": list(service.addresses),
        "mesh_external": service.mesh_external,
        "ports": [
            {
                "name": port.name,
                "number": port.number,
                "protocol": port.protocol.value,
                "target_port": port.target_port,
            }
            for port in service.ports
        ],
        "labels": dict(service.labels),
        "selector": dict(service.selector),
        "export_to": list(service.export_to),
    }


def _endpoint(endpoint: ServiceEndpoint) -> JsonObject:
    workload = endpoint.workload
    return {
        "service_port": endpoint.service_port,
        "address": endpoint.address,
        "port": endpoint.port,
        "workload": f"{workload.namespace}/{workload.name}",
        "service_account": workload.service_account,
        "labels": dict(workload.labels),
        "locality": workload.locality,
        "weight": workload.weight,
        "mesh_tls": workload.mesh_tls,
        "healthy": workload.healthy,
    }


def _status(status: ResourceStatus) -> JsonObject:
    return {
        "kind": status.key.kind,
        "namespace": status.key.namespace,
        "name": status.key.name,
        "state": status.state.value,
        "in_force": status.in_force,
        "origin": str(status.origin),
        "generation": status.generation,
        "reasons": list(status.reasons),
        "warnings": list(status.warnings),
        "unresolved": list(status.unresolved),
        "serving_generation": status.serving_generation,
        "since": status.since,
    }
