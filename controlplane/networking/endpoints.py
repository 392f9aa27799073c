"""Load assignments: the endpoints of one port of a service, or of one of its subsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from envoy.config.endpoint.v3.endpoint_components_pb2 import LbEndpoint
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment

from controlplane.model.proxy import Proxy
from controlplane.model.service import Resolution, Service, ServiceEndpoint, ServicePort, Workload
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking.addresses import socket_address
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destination_rules import subset_of, visible_rules
from controlplane.networking.messages import uint32
from controlplane.networking.names import OutboundName
from controlplane.networking.peer_authentication import PeerAuthentications, peer_authentications
from controlplane.networking.scope import declarations_in_scope
from controlplane.resources.destination_rule import Subset
from controlplane.resources.ip_addresses import is_ip_address
from protos.node import ISTIO_METADATA, TRANSPORT_SOCKET_MATCH, WORKLOAD_METADATA
from protos.type_urls import CLUSTER, ENDPOINT

_MAX_UINT32: Final = 2**32 - 1


def outbound_endpoints(
    cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy, cluster_name: str
) -> ClusterLoadAssignment | None:
    """The load assignment of an EDS cluster; None if the proxy cannot have such a cluster. It reads one
    service only, in a mesh of any size."""
    name = OutboundName.parse(cluster_name)
    declarations = declarations_in_scope(snapshot, proxy, name.hostname) if name else ()
    service = next((each for each in declarations if name and each.port(name.port)), None)
    port = service.port(name.port) if name and service else None
    if name is None or service is None or port is None or service.resolution is not Resolution.STATIC:
        return None
    root_namespace = snapshot.mesh_config.root_namespace
    rules = visible_rules(cache, snapshot.destination_rules, root_namespace, proxy.namespace)
    subset = subset_of(rules.find(service), name.subset)
    if name.subset and subset is None:
        return None
    return _assignment(
        cache,
        cluster_name=cluster_name,
        port=port,
        subset=subset,
        endpoints=declared_endpoints(cache, service, endpoints=snapshot.endpoints.get(service.hostname, ())),
        policies=peer_authentications(cache, snapshot.peer_authentications, root_namespace),
    )


# Endpoints may change for days in a mesh without other changes: old ones must not stay in the cache.
@cached(latest=("endpoints",))
def declared_endpoints(
    cache: BuildCache, service: Service, *, endpoints: tuple[ServiceEndpoint, ...]
) -> tuple[ServiceEndpoint, ...]:
    """The endpoints of one declaration of a host."""
    del cache
    own = tuple(endpoint for endpoint in endpoints if endpoint.declaration == service.declaration)
    return endpoints if len(own) == len(endpoints) else own


@cached(latest=("endpoints",), types=[CLUSTER])
def endpoints_by_dns(
    cache: BuildCache,
    service: Service,
    policies: PeerAuthentications,
    *,
    endpoints: tuple[ServiceEndpoint, ...],
) -> tuple[ServiceEndpoint, ...]:
    """The endpoints that a cluster which resolves names contains, where ``mesh_tls`` takes the policies into
    account. Empty for services whose clusters do not resolve names."""
    del cache
    if service.resolution not in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
        return ()
    return tuple(
        replace(each, workload=replace(each.workload, mesh_tls=policies.accept_mesh_tls(each)))
        for each in endpoints
    )


@cached(latest=("endpoints",))
def ports_in_mesh_tls(
    cache: BuildCache,
    service: Service,
    policies: PeerAuthentications,
    *,
    endpoints: tuple[ServiceEndpoint, ...],
) -> frozenset[str]:
    """The names of the service's ports of which every endpoint accepts mesh TLS; ports without endpoints are
    left out."""
    del cache, service  # the service is part of the cache key
    taking: dict[str, bool] = {}
    for endpoint in endpoints:
        takes = policies.accept_mesh_tls(endpoint)
        taking[endpoint.service_port] = taking.get(endpoint.service_port, True) and takes
    return frozenset(name for name, takes in taking.items() if takes)


@cached(latest=("endpoints",), types=[ENDPOINT])
def _assignment(
    cache: BuildCache,
    *,
    cluster_name: str,
    port: ServicePort,
    subset: Subset | None,
    endpoints: tuple[ServiceEndpoint, ...],
    policies: PeerAuthentications,
) -> ClusterLoadAssignment:
    del cache
    by_locality: dict[str, list[LbEndpoint]] = defaultdict(list)
    for endpoint in _selected(endpoints, port, subset):
        # With a host name as an address, the proxy would reject the whole assignment.
        if is_ip_address(endpoint.address):
            mesh_tls = policies.accept_mesh_tls(endpoint)
            by_locality[endpoint.workload.locality].append(_lb_endpoint(endpoint, mesh_tls=mesh_tls))
    return _load_assignment(cluster_name, by_locality)


def endpoint_assignments(
    service: Service,
    port: ServicePort,
    endpoints: tuple[ServiceEndpoint, ...],
    policies: PeerAuthentications,
) -> Iterable[tuple[str, ClusterLoadAssignment]]:
    """The assignment of each endpoint with its own host, whether it is ready or not."""
    by_host: dict[str, dict[str, list[LbEndpoint]]] = defaultdict(lambda: defaultdict(list))
    for endpoint in endpoints:
        if endpoint.hostname and endpoint.service_port == port.name and is_ip_address(endpoint.address):
            found = _lb_endpoint(endpoint, mesh_tls=policies.accept_mesh_tls(endpoint))
            by_host[endpoint.hostname][endpoint.workload.locality].append(found)
    for name, by_locality in sorted(by_host.items()):
        yield f"{name}.{service.hostname}", _load_assignment("", by_locality)


def dns_assignment(
    cluster_name: str,
    service: Service,
    port: ServicePort,
    subset: Subset | None,
    endpoints: tuple[ServiceEndpoint, ...],
) -> ClusterLoadAssignment:
    """The names that a DNS cluster resolves: those of the endpoints, or the service's own host if there are
    none."""
    by_locality: dict[str, list[LbEndpoint]] = defaultdict(list)
    for endpoint in _selected(endpoints, port, subset):
        found = _lb_endpoint(endpoint, mesh_tls=endpoint.workload.mesh_tls)
        by_locality[endpoint.workload.locality].append(found)
    if not by_locality and not endpoints and not service.hostname.startswith("*"):
        number = port.target_port if isinstance(port.target_port, int) else port.number
        address = socket_address(service.external_name or service.hostname, number)
        by_locality[""].append(LbEndpoint(endpoint={"address": address}, load_balancing_weight=uint32(1)))
    return _load_assignment(cluster_name, by_locality)


def _selected(
    endpoints: Iterable[ServiceEndpoint], port: ServicePort, subset: Subset | None
) -> Iterable[ServiceEndpoint]:
    for endpoint in endpoints:
        workload = endpoint.workload
        if endpoint.service_port != port.name or not workload.healthy:
            continue
        if subset is None or subset.labels.items() <= workload.labels.items():
            yield endpoint


def _load_assignment(cluster_name: str, by_locality: dict[str, list[LbEndpoint]]) -> ClusterLoadAssignment:
    assignment = ClusterLoadAssignment(cluster_name=cluster_name)
    for locality, endpoints in sorted(by_locality.items()):
        assignment.endpoints.add(
            locality=_locality(locality),
            lb_endpoints=endpoints,
            # A gRPC client ignores a locality without a weight.
            load_balancing_weight=uint32(_fit_weights(endpoints)),
        )
    return assignment


def _fit_weights(endpoints: Sequence[LbEndpoint]) -> int:
    """The sum of the weights, which must fit into 32 bits: larger weights are scaled down."""
    total: int = sum(endpoint.load_balancing_weight.value for endpoint in endpoints)
    if total <= _MAX_UINT32:
        return total
    scale = total // _MAX_UINT32 + 1
    for endpoint in endpoints:
        endpoint.load_balancing_weight.value = max(1, endpoint.load_balancing_weight.value // scale)
    return _fit_weights(endpoints)


def _locality(locality: str) -> dict[str, str]:
    return dict(zip(("region", "zone", "sub_zone"), locality.split("/", 2), strict=False))


def _lb_endpoint(endpoint: ServiceEndpoint, *, mesh_tls: bool) -> LbEndpoint:
    found = LbEndpoint(
        endpoint={"address": socket_address(endpoint.address, endpoint.port)},
        load_balancing_weight=uint32(max(1, endpoint.workload.weight)),
    )
    metadata = found.metadata.filter_metadata
    metadata[ISTIO_METADATA].update({WORKLOAD_METADATA: _workload_metadata(endpoint.workload)})
    if mesh_tls:
        metadata[TRANSPORT_SOCKET_MATCH].update({"tlsMode": "istio"})
    return found


def _workload_metadata(workload: Workload) -> str:
    """``name;namespace;canonical name;canonical revision;cluster``, for request metrics. As in Istio, the
    name is that of the owner, since pods come and go."""
    labels = workload.labels
    name = workload.owner or workload.name
    canonical_name = (
        labels.get("service.istio.io/canonical-name")
        or labels.get("app.kubernetes.io/name")
        or labels.get("app")
        or name
    )
    revision = (
        labels.get("service.istio.io/canonical-revision")
        or labels.get("app.kubernetes.io/version")
        or labels.get("version")
        or "latest"
    )
    return f"{name};{workload.namespace};{canonical_name};{revision};"
