"""What each kind of resource wants for itself alone, for the `ConflictResolver`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from controlplane.model.conflict_resolver import Claim
from controlplane.model.conversion import DeclaredService
from controlplane.model.hosts import export_scopes
from controlplane.model.record import Version
from controlplane.model.service import Registry
from controlplane.model.snapshot import Config
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService

_EVERYWHERE = frozenset({"*"})


def service_claims(version: Version) -> Iterator[Claim]:
    """One declaration for each host, among those that a namespace sees; its owner may declare other ports of
    it apart."""
    for index, declared in enumerate(cast("tuple[DeclaredService, ...]", version.view)):
        service = declared.service
        kubernetes = service.registry is Registry.KUBERNETES
        yield Claim(
            subject=service.hostname,
            scopes=export_scopes(service.export_to, service.namespace),
            path="metadata.name" if kubernetes else f"spec.hosts[{index}]",
            words=f"the host {service.hostname} is declared",
            owner=service.namespace,
            ports=frozenset(port.number for port in service.ports),
            order=service.seniority,
        )


def virtual_service_claims(version: Version) -> Iterator[Claim]:
    """One VirtualService for each host, among those that a namespace sees."""
    config = cast("Config[VirtualService]", version.view)
    for index, host in enumerate(config.spec.hosts):
        yield Claim(
            subject=host,
            scopes=export_scopes(config.spec.export_to, config.key.namespace),
            path=f"spec.hosts[{index}]",
            words=f"the host {host} is routed",
            owner=config.key.namespace,
            order=config.order,
        )


def destination_rule_claims(version: Version) -> Iterator[Claim]:
    """One DestinationRule for each host in a namespace, among those that a namespace sees; the client's
    namespace decides between namespaces."""
    config = cast("Config[DestinationRule]", version.view)
    yield Claim(
        subject=f"{config.key.namespace}/{config.spec.host}",
        scopes=export_scopes(config.spec.export_to, config.key.namespace),
        path="spec.host",
        words=f"the host {config.spec.host} is ruled",
        owner=config.key.namespace,
        order=config.order,
    )


def sidecar_claims(version: Version) -> Iterator[Claim]:
    """One Sidecar without a selector for each namespace."""
    config = cast("Config[Sidecar]", version.view)
    selector = config.spec.workload_selector
    if not (selector and selector.labels):
        yield _namespace_wide(config.key.namespace, "spec.workloadSelector")


def peer_authentication_claims(version: Version) -> Iterator[Claim]:
    """One PeerAuthentication without a selector for each namespace."""
    config = cast("Config[PeerAuthentication]", version.view)
    selector = config.spec.selector
    if not (selector and selector.match_labels):
        yield _namespace_wide(config.key.namespace, "spec.selector")


def _namespace_wide(namespace: str, path: str) -> Claim:
    return Claim(
        subject=namespace,
        scopes=_EVERYWHERE,
        path=path,
        words=f"is absent, and the namespace {namespace} is ruled",
    )
