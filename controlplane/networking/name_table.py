"""The name table of a proxy: the hosts that its DNS resolver answers, with their addresses. All other names
are for the resolvers of its pod."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from controlplane.model.service import Registry, Service, ServiceEndpoint
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.scope import SidecarScope
from controlplane.resources.ip_addresses import is_ip_address
from protos.nds_pb2 import NameTable
from protos.type_urls import NAME_TABLE

_MOST_CHARACTERS: Final = 253  # RFC 1035 section 2.3.4, as text without the last dot


@cached(latest=("endpoints",), types=[NAME_TABLE])
def name_table(
    cache: BuildCache, scope: SidecarScope, *, endpoints: Mapping[str, tuple[ServiceEndpoint, ...]]
) -> NameTable:
    """The hosts that the proxy may request, and each ready endpoint of a headless service that has its own
    host. A host without an address (resolution NONE, CIDRs, an ExternalName) is left out."""
    del cache
    table = NameTable()
    for hostname, declared in scope.services.items():
        first = declared[0]
        if first.headless:
            _add_headless(table, first, endpoints.get(hostname, ()))
        else:
            _add(table, hostname, first, first.name, _virtual_ips(scope, hostname, declared))
    return table


def _virtual_ips(scope: SidecarScope, hostname: str, declared: Iterable[Service]) -> Iterator[str]:
    for service in declared:
        yield from filter(is_ip_address, service.addresses)
    yield from scope.automatic_addresses.get(hostname, ())


def _add_headless(table: NameTable, service: Service, endpoints: Iterable[ServiceEndpoint]) -> None:
    """As Kubernetes: the host has the addresses of all ready pods, and each pod with a host name of its own
    has a host below it."""
    addresses: dict[str, list[str]] = defaultdict(list)  # by the pod's own host name; "" has all
    for endpoint in endpoints:
        ready = endpoint.workload.healthy and endpoint.declaration == service.declaration
        if ready and is_ip_address(endpoint.address):
            for name in {"", endpoint.hostname}:
                addresses[name].append(endpoint.address)
    for name, found in addresses.items():
        prefix = f"{name}." if name else ""
        _add(table, prefix + service.hostname, service, prefix + service.name, found)


def _is_dns_name(hostname: str) -> bool:
    """A host may also be an IPv6 address, or a wildcard for a part of a label: DNS has neither, and a proxy
    would refuse the whole table."""
    partial = hostname.startswith("*") and not hostname.startswith("*.")
    return not partial and ":" not in hostname and len(hostname) <= _MOST_CHARACTERS


def _add(table: NameTable, hostname: str, service: Service, shortname: str, addresses: Iterable[str]) -> None:
    ips = list(dict.fromkeys(addresses))
    if not ips or not _is_dns_name(hostname):
        return
    info = table.table[hostname]
    info.ips.extend(ips)
    info.registry = service.registry.value
    if service.registry is Registry.KUBERNETES:
        info.shortname, info.namespace = shortname, service.namespace
