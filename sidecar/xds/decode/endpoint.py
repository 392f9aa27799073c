"""``ClusterLoadAssignment``: the hosts of a cluster."""

from __future__ import annotations

import re
from typing import Final

from sidecar.config.endpoint import (
    Endpoint,
    HealthStatus,
    LoadAssignment,
    Locality,
    LocalityWeight,
    WorkloadMetadata,
)
from sidecar.xds.decode.support import NO_HEALTH_CHECKS, NO_READER, SupportTable, support
from sidecar.xds.decode.values import decode_address, decode_ip_address, metadata_strings
from sidecar.xds.decode.view import View

_NO_HOST = re.compile(
    r"[\x00-\x20\x7f]"
)  # RFC 3986 3.2.2: characters that would end a Host field, or its value
_MAX_UINT32 = 2**32 - 1
_TRANSPORT_SOCKET_MATCH = "envoy.transport_socket_match"
_LB = "envoy.lb"
_ISTIO = "istio"


TABLE: Final[SupportTable] = {
    "envoy.config.endpoint.v3.ClusterLoadAssignment": support("cluster_name endpoints policy"),
    "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": support("overprovisioning_factor"),
    "envoy.config.endpoint.v3.LocalityLbEndpoints": support(
        "locality lb_endpoints priority",
        kept="load_balancing_weight",
        metadata=NO_READER,
        proximity="Envoy does not read it",
    ),
    "envoy.config.core.v3.Locality": support("region zone sub_zone"),
    "envoy.config.endpoint.v3.LbEndpoint": support("endpoint health_status metadata load_balancing_weight"),
    "envoy.config.endpoint.v3.Endpoint": support("address hostname", health_check_config=NO_HEALTH_CHECKS),
}


def decode_load_assignment(view: View, *, names_allowed: bool = False) -> LoadAssignment:
    """``names_allowed``: addresses can be names, as in clusters of type STRICT_DNS and LOGICAL_DNS."""
    endpoints = tuple(
        endpoint
        for group in view.each("endpoints")
        for endpoint in _locality_endpoints(group, names_allowed=names_allowed)
    )
    _check_weights(view, endpoints)
    return LoadAssignment(
        cluster_name=view.message.cluster_name,
        endpoints=endpoints,
        locality_weights=_locality_weights(view),
        overprovisioning_factor=view.get("policy").wrapped("overprovisioning_factor", 140),
    )


def _check_weights(view: View, endpoints: tuple[Endpoint, ...]) -> None:
    totals: dict[tuple[int, Locality], int] = {}
    for endpoint in endpoints:
        key = (endpoint.priority, endpoint.locality)
        totals[key] = totals.get(key, 0) + endpoint.weight
    for (priority, _), total in totals.items():
        if total > _MAX_UINT32:
            reason = (
                f"the sum of the weights of a locality of priority {priority} is {total}, above {_MAX_UINT32}"
            )
            raise view.error(reason, "endpoints")


def _locality_weights(view: View) -> tuple[LocalityWeight, ...]:
    """If a locality has several groups of endpoints in a priority, the last weight holds, as in Envoy."""
    weights: dict[tuple[int, Locality], int] = {}
    for group in view.each("endpoints"):
        if group.has("load_balancing_weight"):
            weights[group.message.priority, _locality(group)] = group.wrapped("load_balancing_weight", 0)
    return tuple(
        LocalityWeight(locality=locality, priority=priority, weight=weight)
        for (priority, locality), weight in weights.items()
    )


def _locality(group: View) -> Locality:
    where = group.message.locality
    return Locality(region=where.region, zone=where.zone, sub_zone=where.sub_zone)


def _locality_endpoints(group: View, *, names_allowed: bool) -> list[Endpoint]:
    locality = _locality(group)
    return [
        _endpoint(endpoint, locality, group.message.priority, names_allowed=names_allowed)
        for endpoint in group.each("lb_endpoints")
    ]


def _endpoint(view: View, locality: Locality, priority: int, *, names_allowed: bool) -> Endpoint:
    message = view.message
    host = view.get("endpoint")
    if not host.has("address"):
        raise host.error("is required", "address")
    address = decode_address(host.get("address")) if names_allowed else decode_ip_address(host.get("address"))
    metadata = message.metadata
    if _NO_HOST.search(host.message.hostname):  # auto_host_rewrite makes it a request's authority
        raise host.error("is not a host name", "hostname")
    workload = metadata_strings(metadata, _ISTIO).get("workload")
    return Endpoint(
        address=address,
        hostname=host.message.hostname,
        weight=view.wrapped("load_balancing_weight", 1),
        health=HealthStatus[view.enum_name("health_status")],
        locality=locality,
        priority=priority,
        tls_match=metadata_strings(metadata, _TRANSPORT_SOCKET_MATCH),
        subset_labels=metadata_strings(metadata, _LB),
        workload=WorkloadMetadata.parse(workload) if workload else None,
    )
