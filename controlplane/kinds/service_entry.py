"""Istio's ``ServiceEntry``: services that Kubernetes does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.kinds import declared_services
from controlplane.kinds.declared_services import Declared
from controlplane.kinds.kind import Kind
from controlplane.kinds.workload_entry import workload_of
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Registry, Service
from controlplane.model.service import Resolution as ServiceResolution
from controlplane.model.snapshot import ResourceKey
from controlplane.model.view import DeclaredService
from controlplane.resources.kind import ISTIO_NETWORKING
from controlplane.resources.metadata import Metadata
from controlplane.resources.service_entry import Location, Resolution, ServiceEntry
from protos.type_urls import PUSH_ORDER

_AUTOMATIC_ADDRESS: Final = "networking.istio.io/enable-autoallocate-ip"  # a label


def _view(_: ResourceKey, metadata: Metadata, spec: ServiceEntry, __: MeshConfig) -> Declared:
    return tuple(_declared(host, metadata, spec) for host in spec.hosts)


def _declared(host: str, metadata: Metadata, spec: ServiceEntry) -> DeclaredService:
    service = Service(
        hostname=host,
        name=host,
        namespace=metadata.namespace,
        registry=Registry.EXTERNAL,
        ports=tuple(
            declared_services.declared_port(port.name, port.number, port.protocol, port.target_port)
            for port in spec.ports
        ),
        addresses=spec.addresses,
        resolution=ServiceResolution(spec.resolution.value),
        mesh_external=spec.location is Location.MESH_EXTERNAL,
        labels=metadata.labels,
        selector=spec.workload_selector.labels if spec.workload_selector else {},
        export_to=spec.export_to or ("*",),
        subject_alt_names=spec.subject_alt_names,
        creation=metadata.creation_timestamp or "",
        declaration=f"{metadata.namespace}/{metadata.name}",
        automatic_address=_gets_address(host, metadata, spec),
    )
    endpoints = tuple(
        workload_of(f"{metadata.name}-{index}", metadata.namespace, endpoint, {})
        for index, endpoint in enumerate(spec.endpoints)
    )
    return DeclaredService(service=service, endpoints=endpoints)


def _gets_address(host: str, metadata: Metadata, spec: ServiceEntry) -> bool:
    """Istio's rule. With the resolution NONE, connections go to their original destination, which must be a
    real one."""
    return (
        not spec.addresses
        and spec.resolution is not Resolution.NONE
        and not host.startswith("*")
        and metadata.labels.get(_AUTOMATIC_ADDRESS, "").lower() != "false"
    )


def _warnings(spec: ServiceEntry) -> Iterator[str]:
    for index, port in enumerate(spec.ports):
        yield from declared_services.undeclared_protocol(
            f"spec.ports[{index}]", port.name, "protocol", port.protocol, port.number
        )


SERVICE_ENTRY: Final[Kind[ServiceEntry, Declared]] = Kind(
    name="ServiceEntry",
    spec=ServiceEntry,
    api_versions=ISTIO_NETWORKING,
    plural="serviceentries",
    short_names=("se",),
    columns={"Hosts": ".spec.hosts", "Location": ".spec.location", "Resolution": ".spec.resolution"},
    view=_view,
    warnings=_warnings,
    claims=declared_services.host_claims,
    references=declared_services.port_collisions,
    touches=frozenset(PUSH_ORDER),
    narrow=declared_services.narrow,
    affected=declared_services.affected,
    traces=declared_services.traces,
)
