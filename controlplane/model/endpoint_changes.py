"""The effects of a service's new endpoints on other resources than load assignments. They follow from the
parts of endpoints that the builders read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from controlplane.model.service import Resolution, ServiceEndpoint
from controlplane.model.snapshot import Config, MeshSnapshot, ResourceKey
from controlplane.resources.peer_authentication import PeerAuthentication

_BY_DNS = (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
_Port = tuple[str, str]  # the declaration, the port's name


def altering_clusters(before: MeshSnapshot, after: MeshSnapshot, hostnames: Iterable[str]) -> Iterator[str]:
    """The services whose new endpoints alter clusters. A cluster contains the endpoints that are resolved by
    DNS, the identities that endpoints may prove, and whether all of them accept mesh TLS."""
    selecting = _selecting(after.peer_authentications)
    for hostname in hostnames:
        old, new = before.endpoints.get(hostname, ()), after.endpoints.get(hostname, ())
        if (
            any(each.resolution in _BY_DNS for each in after.declarations(hostname))
            or _accounts(old) != _accounts(new)
            or _mesh_tls(old, selecting) != _mesh_tls(new, selecting)
        ):
            yield hostname


def readdressed(before: MeshSnapshot, after: MeshSnapshot, hostnames: Iterable[str]) -> Iterator[str]:
    """The headless services whose addresses, or whose hosts of single endpoints, have changed."""
    for hostname in hostnames:
        if any(each.headless for each in after.declarations(hostname)):
            old, new = before.endpoints.get(hostname, ()), after.endpoints.get(hostname, ())
            if _dialled(old) != _dialled(new):
                yield hostname


def renamed(before: MeshSnapshot, after: MeshSnapshot, hostnames: Iterable[str]) -> Iterator[str]:
    """The headless services whose ready addresses, or whose hosts of single endpoints, have changed."""
    for hostname in hostnames:
        if any(each.headless for each in after.declarations(hostname)):
            old, new = before.endpoints.get(hostname, ()), after.endpoints.get(hostname, ())
            if _ready(old) != _ready(new):
                yield hostname


def _ready(endpoints: Iterable[ServiceEndpoint]) -> set[tuple[str, str]]:
    return {(each.address, each.hostname) for each in endpoints if each.workload.healthy}


def _accounts(endpoints: Iterable[ServiceEndpoint]) -> set[tuple[str, str, str]]:
    """The service accounts by declaration: each declaration has separate clusters."""
    return {(each.declaration, each.workload.namespace, each.workload.service_account) for each in endpoints}


def _mesh_tls(
    endpoints: Iterable[ServiceEndpoint], selecting: Mapping[str, list[Config[PeerAuthentication]]]
) -> dict[_Port, object]:
    """The data that determines whether every endpoint of a port accepts mesh TLS while the policies stay the
    same: None if an endpoint has no sidecar; otherwise the policies that select each endpoint, and its port,
    which the policies may name."""
    plain: set[_Port] = set()
    taking: dict[_Port, set[object]] = defaultdict(set)
    for each in endpoints:
        port, workload = (each.declaration, each.service_port), each.workload
        if workload.mesh_tls:
            policies = selecting.get(workload.namespace, ())
            taking[port].add((workload.namespace, each.port, frozenset(_policies_for(each, policies))))
        else:
            plain.add(port)
    return {**taking, **dict.fromkeys(plain)}


def _policies_for(
    endpoint: ServiceEndpoint, policies: Iterable[Config[PeerAuthentication]]
) -> Iterator[ResourceKey]:
    labels = endpoint.workload.labels.items()
    for policy in policies:
        if policy.spec.selector and policy.spec.selector.match_labels.items() <= labels:
            yield policy.key


def _selecting(
    policies: Iterable[Config[PeerAuthentication]],
) -> dict[str, list[Config[PeerAuthentication]]]:
    """The policies with a selector, by namespace."""
    found: dict[str, list[Config[PeerAuthentication]]] = defaultdict(list)
    for policy in policies:
        if policy.spec.selector and policy.spec.selector.match_labels:
            found[policy.key.namespace].append(policy)
    return found


def _dialled(endpoints: Iterable[ServiceEndpoint]) -> dict[tuple[str, str], list[object]]:
    """The endpoints that clients dial, by port and own host. An endpoint with a host has a cluster, which
    depends on all of its fields. Of the other endpoints only the address matters. Readiness never matters."""
    found: dict[tuple[str, str], list[object]] = defaultdict(list)
    addresses: dict[tuple[str, str], set[str]] = defaultdict(set)
    for each in endpoints:
        port = each.service_port, each.hostname
        if each.hostname:
            found[port].append(replace(each, workload=replace(each.workload, healthy=True)))
        else:
            addresses[port].add(each.address)
    return found | {port: [each] for port, each in addresses.items()}
