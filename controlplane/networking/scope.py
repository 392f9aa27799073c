"""The part of the mesh that one proxy sees: Istio's ``SidecarScope``.

Proxies of one namespace that the same ``Sidecar`` resource covers share one scope object, and everything that
is built from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import chain

from controlplane.model.declarations import declarations_for
from controlplane.model.hosts import HostIndex, export_rank, exported_to
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode, Proxy, ProxyType
from controlplane.model.service import Service
from controlplane.model.snapshot import Config, MeshSnapshot
from controlplane.networking.addresses import local_addresses
from controlplane.networking.automatic_addresses import AutomaticAddress, automatic_addresses
from controlplane.networking.build_cache import BuildCache, cached
from controlplane.networking.destination_rules import VisibleRules, visible_rules
from controlplane.resources.hosts import covers
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.sidecar import OutboundTrafficPolicyMode, Sidecar
from controlplane.resources.virtual_service import VirtualService, concerns_mesh
from protos.type_urls import CLUSTER, LISTENER, ROUTE

VirtualServices = tuple[Config[VirtualService], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SidecarScope:
    """``services`` are those whose hosts the proxy may request: the declarations by hostname, sorted by name.
    ``destinations`` also has the destinations of routes, whose own hosts the proxy may not request.
    ``allow_any_outbound``: traffic to unknown hosts passes. ``redirected``: connections have an original
    destination. ``wildcard_address`` is that of the proxy's family. ``automatic_addresses`` are virtual IPs,
    by hostname, of ``services`` without any; empty unless the proxy resolves their hosts to them."""

    namespace: str
    mesh_config: MeshConfig
    services: Mapping[str, tuple[Service, ...]]
    destinations: Mapping[str, tuple[Service, ...]]
    virtual_services: VirtualServices
    destination_rules: VisibleRules
    allow_any_outbound: bool
    redirected: bool
    wildcard_address: str
    automatic_addresses: Mapping[str, tuple[str, ...]]
    routing: HostIndex[VirtualService]

    def all_services(self) -> Iterator[Service]:
        """Every declaration of ``services``."""
        return chain.from_iterable(self.services.values())

    def virtual_service(self, hostname: str) -> VirtualService | None:
        return self.routing.find(hostname)


def scope_of(cache: BuildCache, snapshot: MeshSnapshot, proxy: Proxy) -> SidecarScope:
    """The scope of a proxy: the same object as long as nothing in it changes."""
    mesh_config = snapshot.mesh_config
    return _scope(
        cache,
        mesh_config=mesh_config,
        all_services=snapshot.services,
        further_services=snapshot.further_services,
        all_virtual_services=snapshot.virtual_services,
        destination_rules=visible_rules(
            cache, snapshot.destination_rules, mesh_config.root_namespace, proxy.namespace
        ),
        sidecar=sidecar_of(snapshot, proxy),
        namespace=proxy.namespace,
        redirected=redirects(proxy),
        wildcard_address=local_addresses(proxy).wildcard,
        address_families=_address_families(snapshot, proxy),
    )


def redirects(proxy: Proxy) -> bool:
    """A gRPC client has no sidecar that could redirect."""
    return proxy.type is ProxyType.SIDECAR and proxy.interception_mode is not InterceptionMode.NONE


def _address_families(snapshot: MeshSnapshot, proxy: Proxy) -> frozenset[int]:
    """The IP versions of the automatic addresses that the proxy uses: those of its workload. None without DNS
    capture, or where connections to these addresses would not be redirected."""
    if not (proxy.captures_dns and redirects(proxy)):
        return frozenset()
    workload = snapshot.known_workloads.named(proxy.namespace, proxy.workload)
    addresses = workload.addresses if workload is not None and workload.addresses else (proxy.ip,)
    return frozenset(ip_address(each).version for each in addresses if is_ip_address(each))


def sidecar_of(snapshot: MeshSnapshot, proxy: Proxy) -> Sidecar | None:
    """The ``Sidecar`` that covers a proxy: one that selects it, or else that of its namespace, or else that
    of the mesh."""
    root = snapshot.mesh_config.root_namespace
    in_namespace = [each.spec for each in snapshot.sidecars if each.key.namespace == proxy.namespace]
    for spec in in_namespace:
        selector = spec.workload_selector
        if selector and selector.labels and selector.labels.items() <= proxy.labels.items():
            return spec
    in_root = [each.spec for each in snapshot.sidecars if each.key.namespace == root]
    for spec in (*in_namespace, *in_root):
        if not (spec.workload_selector and spec.workload_selector.labels):
            return spec
    return None


def declarations_in_scope(snapshot: MeshSnapshot, proxy: Proxy, hostname: str) -> tuple[Service, ...]:
    """The declarations of one host as in `SidecarScope.destinations`, or as its namespace sees it if it is
    not imported."""
    declared = snapshot.declarations(hostname)
    imported: tuple[Service, ...] = ()
    if len(declared) > 1:  # otherwise only one is left
        imported = _Imports(sidecar_of(snapshot, proxy), proxy.namespace).declarations(declared)
    return imported or declarations_for(proxy.namespace, declared)


@cached(types=[CLUSTER, LISTENER, ROUTE])
def _scope(
    cache: BuildCache,
    *,
    mesh_config: MeshConfig,
    all_services: Mapping[str, Service],
    further_services: Mapping[str, tuple[Service, ...]],
    all_virtual_services: VirtualServices,
    destination_rules: VisibleRules,
    sidecar: Sidecar | None,
    namespace: str,
    redirected: bool,
    wildcard_address: str,
    address_families: frozenset[int],
) -> SidecarScope:
    imports = _Imports(sidecar, namespace)
    virtual_services = tuple(
        each
        for each in sorted(all_virtual_services, key=partial(_rank, namespace=namespace))
        if exported_to(each.spec.export_to, each.key.namespace, namespace)
        and any(imports.touches(each.key.namespace, host) for host in each.spec.hosts)
    )
    # Istio: the destination of an imported route has a cluster, but its host is not visible.
    routed = set(_destinations(virtual_services))
    services: dict[str, tuple[Service, ...]] = {}
    destinations: dict[str, tuple[Service, ...]] = {}
    for hostname, first in sorted(all_services.items()):
        declared = (first, *further_services.get(hostname, ()))
        imported = imports.declarations(declared)
        if imported:
            services[hostname] = destinations[hostname] = imported
        elif hostname in routed and (visible := declarations_for(namespace, declared)):
            destinations[hostname] = visible
    assigned = automatic_addresses(cache, all_services, further_services) if address_families else {}
    return SidecarScope(
        namespace=namespace,
        mesh_config=mesh_config,
        services=services,
        destinations=destinations,
        virtual_services=virtual_services,
        destination_rules=destination_rules,
        allow_any_outbound=_allows_any_outbound(sidecar, mesh_config),
        redirected=redirected,
        wildcard_address=wildcard_address,
        automatic_addresses=_addresses_for(services, assigned, address_families),
        routing=HostIndex((host, each.spec) for each in virtual_services for host in each.spec.hosts),
    )


def _addresses_for(
    services: Mapping[str, tuple[Service, ...]],
    assigned: Mapping[str, AutomaticAddress],
    families: frozenset[int],
) -> dict[str, tuple[str, ...]]:
    """Only of hosts of which no declaration has other addresses, or needs those of the real host."""
    return {
        hostname: assigned[hostname].of(families)
        for hostname, declared in services.items()
        if hostname in assigned and all(each.automatic_address for each in declared)
    }


def _rank(config: Config[VirtualService], namespace: str) -> int:
    return export_rank(config.spec.export_to, config.key.namespace, namespace)


class _Imports:
    """The egress hosts of a ``Sidecar`` (``namespace/host``). Without any, everything is imported."""

    def __init__(self, sidecar: Sidecar | None, namespace: str) -> None:
        hosts = [host for listener in sidecar.egress for host in listener.hosts] if sidecar else []
        self._namespace = namespace
        split = [host.partition("/") for host in hosts]
        self._patterns = [(owner, pattern) for owner, _, pattern in split] or [("*", "*")]

    def declarations(self, declared: Iterable[Service]) -> tuple[Service, ...]:
        """The imported declarations of one host that apply."""
        included = [each for each in declared if self.includes(each.namespace, each.hostname)]
        return declarations_for(self._namespace, included) if included else ()

    def includes(self, owner: str, hostname: str) -> bool:
        return any(covers(pattern, hostname) for pattern in self._patterns_for(owner))

    def touches(self, owner: str, host: str) -> bool:
        """Whether something that ``host``, perhaps a wildcard, covers is imported."""
        return any(covers(pattern, host) or covers(host, pattern) for pattern in self._patterns_for(owner))

    def _patterns_for(self, owner: str) -> Iterator[str]:
        for namespace, pattern in self._patterns:
            if namespace in ("*", owner) or (namespace == "." and owner == self._namespace):
                yield pattern


def _destinations(virtual_services: VirtualServices) -> Iterable[str]:
    for each in virtual_services:
        for rules in (each.spec.http, each.spec.tls, each.spec.tcp):
            for rule in filter(concerns_mesh, rules):
                yield from (weighted.destination.host for weighted in rule.route)


def _allows_any_outbound(sidecar: Sidecar | None, mesh_config: MeshConfig) -> bool:
    if sidecar is None or sidecar.outbound_traffic_policy is None:
        return mesh_config.allow_any_outbound
    return sidecar.outbound_traffic_policy.mode is OutboundTrafficPolicyMode.ALLOW_ANY
