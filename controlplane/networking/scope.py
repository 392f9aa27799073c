"""What one proxy may see of the mesh: Istio's ``SidecarScope``.

Proxies of one namespace that the same ``Sidecar`` resource covers share one scope object, and everything
that is built from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.model.hosts import HostIndex, export_scopes, exported_to
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import Proxy
from controlplane.model.service import Service
from controlplane.model.snapshot import Config, MeshSnapshot
from controlplane.networking.destination_rules import VisibleRules, visible_rules
from controlplane.networking.memo import memoized
from controlplane.resources.hosts import covers
from controlplane.resources.sidecar import OutboundTrafficPolicyMode, Sidecar
from controlplane.resources.virtual_service import VirtualService, concerns_mesh

VirtualServices = tuple[Config[VirtualService], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SidecarScope:
    """``services`` by hostname, in the order of their names. ``allow_any_outbound``: what the mesh does not
    know may pass."""

    namespace: str
    mesh_config: MeshConfig
    services: Mapping[str, Service]
    virtual_services: VirtualServices
    destination_rules: VisibleRules
    allow_any_outbound: bool
    routing: HostIndex[VirtualService]

    def virtual_service(self, hostname: str) -> VirtualService | None:
        return self.routing.find(hostname)


def scope_of(snapshot: MeshSnapshot, proxy: Proxy) -> SidecarScope:
    """The scope of a proxy: the same object for as long as nothing in it has changed."""
    mesh_config = snapshot.mesh_config
    return _scope(
        mesh_config=mesh_config,
        all_services=snapshot.services,
        all_virtual_services=snapshot.virtual_services,
        destination_rules=visible_rules(
            snapshot.destination_rules, mesh_config.root_namespace, proxy.namespace
        ),
        sidecar=sidecar_of(snapshot, proxy),
        namespace=proxy.namespace,
    )


def sidecar_of(snapshot: MeshSnapshot, proxy: Proxy) -> Sidecar | None:
    """The ``Sidecar`` that covers a proxy: one that selects it, else its namespace's, else the mesh's."""
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


@memoized()
def _scope(
    *,
    mesh_config: MeshConfig,
    all_services: Mapping[str, Service],
    all_virtual_services: VirtualServices,
    destination_rules: VisibleRules,
    sidecar: Sidecar | None,
    namespace: str,
) -> SidecarScope:
    visible = {
        hostname: service
        for hostname, service in sorted(all_services.items())
        if exported_to(service.export_to, service.namespace, namespace)
    }
    imports = _Imports(sidecar, namespace)
    virtual_services = tuple(
        each
        for each in sorted(all_virtual_services, key=_is_for_everybody)
        if exported_to(each.spec.export_to, each.key.namespace, namespace)
        and any(imports.touches(each.key.namespace, host) for host in each.spec.hosts)
    )
    # What an imported route leads to is needed too, as Istio has it.
    routed = set(_destinations(virtual_services))
    services = {
        hostname: service
        for hostname, service in visible.items()
        if hostname in routed or imports.includes(service.namespace, hostname)
    }
    return SidecarScope(
        namespace=namespace,
        mesh_config=mesh_config,
        services=services,
        virtual_services=virtual_services,
        destination_rules=destination_rules,
        allow_any_outbound=_allows_any_outbound(sidecar, mesh_config),
        routing=HostIndex((host, each.spec) for each in virtual_services for host in each.spec.hosts),
    )


def _is_for_everybody(config: Config[VirtualService]) -> bool:
    """Istio: what is exported to a namespace by its name comes before what is exported to all."""
    return "*" in export_scopes(config.spec.export_to, config.key.namespace)


class _Imports:
    """A ``Sidecar``'s egress hosts (``namespace/host``). Without any, everything is imported."""

    def __init__(self, sidecar: Sidecar | None, namespace: str) -> None:
        hosts = [host for listener in sidecar.egress for host in listener.hosts] if sidecar else []
        self._namespace = namespace
        split = [host.partition("/") for host in hosts]
        self._patterns = [(owner, pattern) for owner, _, pattern in split] or [("*", "*")]

    def includes(self, owner: str, hostname: str) -> bool:
        return any(covers(pattern, hostname) for pattern in self._patterns_for(owner))

    def touches(self, owner: str, host: str) -> bool:
        """Whether some of what ``host``, perhaps a wildcard, stands for is imported."""
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
