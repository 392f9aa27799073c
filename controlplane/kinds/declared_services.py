"""The common part of the kinds that declare services: Service and ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from controlplane.kinds.kind import ALL_TYPES, Traces, Viewers
from controlplane.model.claim import Claim
from controlplane.model.hosts import export_scopes
from controlplane.model.in_force import Findings, InForce
from controlplane.model.kind import Touched
from controlplane.model.protocol import select_protocol
from controlplane.model.proxy import ProxyProgress
from controlplane.model.service import Protocol, Registry, ServicePort
from controlplane.model.view import DeclaredService

Declared = tuple[DeclaredService, ...]


def host_claims(view: Declared) -> Iterator[Claim]:
    """Claims each host, so that a namespace sees only one declaration of it. The owner of a host may declare
    other ports of the host in another resource."""
    for index, declared in enumerate(view):
        service = declared.service
        kubernetes = service.registry is Registry.KUBERNETES
        yield Claim(
            subject=("declared host", service.hostname),
            scopes=export_scopes(service.export_to, service.namespace),
            path="metadata.name" if kubernetes else f"spec.hosts[{index}]",
            description=f"the host {service.hostname}",
            verb="declared",
            owner=service.namespace,
            ports=frozenset(port.number for port in service.ports),
            order=service.seniority,
        )


def port_collisions(view: Declared, in_force: InForce) -> Findings:
    found = (warning for declared in view for warning in in_force.collisions.warnings(declared.service))
    return Findings(warnings=tuple(found))


def narrow(before: Declared, after: Declared) -> Touched | None:
    """A change of a service's own labels touches no xDS resource: only the debug API shows them."""
    same = [*map(_without_labels, before)] == [*map(_without_labels, after)]
    return Touched() if same else None


def _without_labels(declared: DeclaredService) -> DeclaredService:
    return replace(declared, service=replace(declared.service, labels={}))


def affected(view: Declared, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies that see one of the services."""
    destinations = viewers.scope.destinations
    return viewers.all_if(
        any(
            each is declared.service
            for declared in view
            for each in destinations.get(declared.service.hostname, ())
        )
    )


def traces(view: Declared, _: Viewers) -> Traces:
    return Traces(types=ALL_TYPES, hosts=[declared.service.hostname for declared in view])


def declared_port(name: str, number: int, protocol: str | None, target_port: int | str | None) -> ServicePort:
    """A port of a service. `protocol` is the value of the field that declares it; the target port defaults to
    the port's own number."""
    return ServicePort(
        name=name,
        number=number,
        protocol=select_protocol(name, protocol, number),
        target_port=target_port or number,
    )


def undeclared_protocol(path: str, name: str, field: str, value: str | None, number: int) -> Iterator[str]:
    """A warning if neither a port's name nor the value of ``field`` declares its protocol. Istio would detect
    it from the first bytes of a connection."""
    if select_protocol(name, value, number) is Protocol.UNSUPPORTED:
        yield (
            f"{path}: neither the name {name!r} nor `{field}` declares the protocol of port {number}: "
            "redirected connections to it are plain TCP, and HTTP routes have no effect"
        )
