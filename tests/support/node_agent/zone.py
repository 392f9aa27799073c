"""The names of a cluster, by Kubernetes' rules for DNS-based service discovery, as CoreDNS applies them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.endpoints import Endpoint, endpoints_by_service
from tests.support.node_agent.following import Collection
from tests.support.node_agent.pod_files import CLUSTER_DOMAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """The records of one name: its IPv4 addresses, or its alias. Neither: other names are below it."""

    addresses: tuple[str, ...] = ()
    alias: str | None = None


Zone = Mapping[str, Records]  # names in lower case, without the last dot


def zone_of(services: Collection, slices: Collection) -> Zone:
    endpoints = endpoints_by_service(slices.values())
    zone: dict[str, Records] = {}
    for (namespace, name), service in services.items():
        full_name = f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}"
        ready = [each for each in endpoints.get((namespace, name), []) if each.ready]
        zone |= names_of(full_name, service["spec"], ready)
    for name in list(zone):
        for ancestor in ancestors(name):
            zone.setdefault(ancestor, Records())
    return zone


def names_of(full_name: str, spec: Resource, ready: list[Endpoint]) -> dict[str, Records]:
    """A headless Service without ready endpoints has no name either."""
    if spec.get("type") == "ExternalName":
        return {full_name: Records(alias=spec["externalName"].rstrip(".").lower())}
    if spec.get("clusterIP") != "None":
        return {full_name: Records(addresses=(spec["clusterIP"],))}
    if not ready:
        return {}
    return {full_name: addresses(ready)} | {
        f"{host}.{full_name}": addresses(each for each in ready if host_of(each) == host)
        for host in {host_of(each) for each in ready}
    }


def host_of(endpoint: Endpoint) -> str:
    return endpoint.hostname or endpoint.address.replace(".", "-")


def addresses(endpoints: Iterable[Endpoint]) -> Records:
    return Records(addresses=tuple(dict.fromkeys(each.address for each in endpoints)))


def ancestors(name: str) -> Iterator[str]:
    """Up to the cluster's domain."""
    while name != CLUSTER_DOMAIN:
        name = name.partition(".")[2]
        yield name
