"""From resources, as their authors write them, to the model: services, workloads, resolved policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from controlplane.model.hosts import resolve_short_name, service_hostname
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.protocol import select_protocol
from controlplane.model.service import Protocol, Registry, Resolution, Service, ServicePort, Workload
from controlplane.model.snapshot import Config, ResourceKey
from controlplane.resources import core
from controlplane.resources.base import Message
from controlplane.resources.deprecation import deprecations
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.metadata import Metadata
from controlplane.resources.registry import Resource
from controlplane.resources.service_entry import Location, ServiceEntry
from controlplane.resources.sidecar import IstioEgressListener, Sidecar
from controlplane.resources.virtual_service import (
    HTTPRoute,
    TCPRoute,
    TLSRoute,
    VirtualService,
    WeightedDestination,
    is_for_mesh,
)
from controlplane.resources.workload_entry import WorkloadEntry
from protos.node import TLS_MODE_LABEL

_EXPORT_TO = "networking.istio.io/exportTo"  # the annotation by which a Kubernetes Service says it

# Of a list, in a warning.
_MOST_NAMES = 5

SpecT = TypeVar("SpecT", bound=Message)
RouteT = TypeVar("RouteT", HTTPRoute, TLSRoute, TCPRoute)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredService:
    """A service, and the endpoints that its declaration names beside those that its selector selects."""

    service: Service
    endpoints: tuple[Workload, ...] = ()


# What a resource is to the model, by its kind; of a Namespace its metadata is all that matters.
View = tuple[DeclaredService, ...] | Workload | Metadata | Config[Message]


def convert(key: ResourceKey, resource: Resource, mesh: MeshConfig) -> View:
    """The view of a resource; host names in it are fully qualified."""
    metadata, spec = resource.metadata, resource.spec
    match spec:
        case core.Namespace():
            return metadata
        case core.Service():
            return (DeclaredService(service=_kubernetes_service(metadata, spec, mesh)),)
        case ServiceEntry():
            return tuple(_external_service(host, metadata, spec) for host in spec.hosts)
        case WorkloadEntry():
            return _workload(metadata.name, metadata.namespace, spec, metadata.labels)
        case _:
            return Config(
                key=key,
                spec=_qualify(spec, metadata.namespace, mesh.dns_domain),
                order=(metadata.creation_timestamp or "", metadata.namespace, metadata.name),
            )


def oddities(spec: Message) -> tuple[str, ...]:
    """Warnings: what a valid resource says that may surprise its author."""
    warnings = [*deprecations(spec, "spec")]
    match spec:
        case VirtualService():
            warnings += [*_gateways(spec), *_route_oddities(spec)]
        case WorkloadEntry():
            warnings += _workload_oddities(spec)
        case core.Service():
            for index, port in enumerate(spec.ports):
                if port.protocol is core.TransportProtocol.TCP:
                    path, said = f"spec.ports[{index}]", ("appProtocol", port.app_protocol)
                    warnings += _unsaid_protocol(path, port.name, said, port.port)
        case ServiceEntry():
            for index, entry in enumerate(spec.ports):
                path, said = f"spec.ports[{index}]", ("protocol", entry.protocol)
                warnings += _unsaid_protocol(path, entry.name, said, entry.number)
        case Sidecar():
            for index, listener in enumerate(spec.ingress):
                path, said = f"spec.ingress[{index}].port", ("protocol", listener.port.protocol)
                warnings += _unsaid_protocol(path, listener.port.name, said, listener.port.number)
    return tuple(warnings)


def _route_oddities(spec: VirtualService) -> Iterator[str]:
    for index, rule in enumerate(spec.http):
        levels = [(f"spec.http[{index}]", rule.headers)]
        levels += [
            (f"spec.http[{index}].route[{number}]", way.headers) for number, way in enumerate(rule.route)
        ]
        for path, headers in levels:
            for where in headers.without_effect() if headers else ():
                yield f"{path}.headers.{where}: has no effect: proxies say themselves how messages are framed"


def _unsaid_protocol(path: str, name: str, said: tuple[str, str | None], number: int) -> Iterator[str]:
    """Istio would look at the first bytes. ``said``: by which field, and what."""
    field, protocol = said
    if select_protocol(name, protocol, number) is Protocol.UNSUPPORTED:
        yield (
            f"{path}: neither the name {name!r} nor `{field}` says the protocol of port {number}: "
            "redirected connections to it are plain TCP, and HTTP routes have no effect"
        )


def _gateways(spec: VirtualService) -> Iterator[str]:
    others = spec.other_gateways
    if not is_for_mesh(spec.gateways):
        yield f"spec.gateways: not for sidecars, and gateways are not supported yet: {_few(others)}"
    elif others:
        yield (
            "spec.gateways: sidecars follow the part that is for `mesh`; "
            f"gateways are not supported yet: {_few(others)}"
        )


def _few(names: Sequence[str]) -> str:
    """Enough of them to know which resource is meant."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _workload_oddities(spec: WorkloadEntry) -> Iterator[str]:
    if not is_ip_address(spec.address):
        yield f"spec.address: {spec.address} is a name, which only services with resolution DNS can use"
    if spec.network:
        yield "spec.network: is not read: every workload is taken to reach every other"


def _kubernetes_service(metadata: Metadata, spec: core.Service, mesh: MeshConfig) -> Service:
    cluster_ips = spec.cluster_ips or (spec.cluster_ip,)
    external = spec.type is core.ServiceType.EXTERNAL_NAME
    export_to = metadata.annotations.get(_EXPORT_TO, "*")
    return Service(
        hostname=service_hostname(metadata.name, metadata.namespace, mesh.dns_domain),
        name=metadata.name,
        namespace=metadata.namespace,
        registry=Registry.KUBERNETES,
        ports=tuple(
            ServicePort(
                name=port.name,
                number=port.port,
                protocol=select_protocol(port.name, port.app_protocol, port.port),
                target_port=port.target_port or port.port,
            )
            for port in spec.ports
            if port.protocol is core.TransportProtocol.TCP
        ),
        addresses=() if external else tuple(ip for ip in cluster_ips if ip not in ("", "None")),
        resolution=Resolution.DNS if external else Resolution.STATIC,
        mesh_external=external,
        labels=metadata.labels,
        selector={} if external else spec.selector,
        export_to=tuple(scope.strip() for scope in export_to.split(",") if scope.strip()),
        creation=metadata.creation_timestamp or "",
        external_name=(spec.external_name or "") if external else "",
        headless=not external and "None" in cluster_ips,
    )


def _external_service(host: str, metadata: Metadata, spec: ServiceEntry) -> DeclaredService:
    service = Service(
        hostname=host,
        name=host,
        namespace=metadata.namespace,
        registry=Registry.EXTERNAL,
        ports=tuple(
            ServicePort(
                name=port.name,
                number=port.number,
                protocol=select_protocol(port.name, port.protocol, port.number),
                target_port=port.target_port or port.number,
            )
            for port in spec.ports
        ),
        addresses=spec.addresses,
        resolution=Resolution(spec.resolution.value),
        mesh_external=spec.location is Location.MESH_EXTERNAL,
        labels=metadata.labels,
        selector=spec.workload_selector.labels if spec.workload_selector else {},
        export_to=spec.export_to or ("*",),
        subject_alt_names=spec.subject_alt_names,
        creation=metadata.creation_timestamp or "",
        declaration=f"{metadata.namespace}/{metadata.name}",
    )
    endpoints = tuple(
        _workload(f"{metadata.name}-{index}", metadata.namespace, endpoint, {})
        for index, endpoint in enumerate(spec.endpoints)
    )
    return DeclaredService(service=service, endpoints=endpoints)


def _workload(name: str, namespace: str, spec: WorkloadEntry, labels: Mapping[str, str]) -> Workload:
    """Istio reads a workload's labels from the spec and from the metadata; the spec's win."""
    labels = {**labels, **spec.labels}
    return Workload(
        name=name,
        namespace=namespace,
        address=spec.address,
        labels=labels,
        ports=spec.ports,
        service_account=spec.service_account,
        locality=spec.locality,
        weight=spec.weight or 1,
        mesh_tls=labels.get(TLS_MODE_LABEL) == "istio",
    )


def _qualify(spec: SpecT, namespace: str, dns_domain: str) -> SpecT:
    """The same policy with every short host name resolved."""

    def resolve(host: str) -> str:
        return resolve_short_name(host, namespace, dns_domain)

    match spec:
        case DestinationRule():
            return spec.model_copy(update={"host": resolve(spec.host)})
        case VirtualService() if not is_for_mesh(spec.gateways):
            # A spec without hosts: it rules nothing, and stands in nobody's way.
            return spec.model_copy(update={"hosts": (), "http": (), "tls": (), "tcp": ()})
        case VirtualService():
            routes = {name: _resolve_routes(getattr(spec, name), resolve) for name in ("http", "tls", "tcp")}
            return spec.model_copy(update={"hosts": tuple(map(resolve, spec.hosts)), **routes})
        case Sidecar():
            return spec.model_copy(
                update={"egress": tuple(_resolve_egress(egress, resolve) for egress in spec.egress)}
            )
        case _:
            return spec


def _resolve_routes(routes: tuple[RouteT, ...], resolve: Callable[[str], str]) -> tuple[RouteT, ...]:
    return tuple(
        route.model_copy(
            update={"route": tuple(_resolve_destination(weighted, resolve) for weighted in route.route)}
        )
        for route in routes
    )


def _resolve_destination(weighted: WeightedDestination, resolve: Callable[[str], str]) -> WeightedDestination:
    destination = weighted.destination.model_copy(update={"host": resolve(weighted.destination.host)})
    return weighted.model_copy(update={"destination": destination})


def _resolve_egress(egress: IstioEgressListener, resolve: Callable[[str], str]) -> IstioEgressListener:
    split = (host.split("/", 1) for host in egress.hosts)
    return egress.model_copy(
        update={"hosts": tuple(f"{namespace}/{resolve(host)}" for namespace, host in split)}
    )
