"""Kubernetes' ``Service``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.kinds import declared_services
from controlplane.kinds.declared_services import Declared
from controlplane.kinds.kind import Kind
from controlplane.model.hosts import service_hostname
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.service import Registry, Resolution, Service
from controlplane.model.snapshot import ResourceKey
from controlplane.model.view import DeclaredService
from controlplane.resources import core
from controlplane.resources.kind import CORE
from controlplane.resources.metadata import Metadata
from protos.type_urls import PUSH_ORDER

_EXPORT_TO = "networking.istio.io/exportTo"  # an annotation; a ServiceEntry has a field


def _view(_: ResourceKey, metadata: Metadata, spec: core.Service, mesh: MeshConfig) -> Declared:
    cluster_ips = spec.cluster_ips or (spec.cluster_ip,)
    external = spec.type is core.ServiceType.EXTERNAL_NAME
    export_to = metadata.annotations.get(_EXPORT_TO, "*")
    service = Service(
        hostname=service_hostname(metadata.name, metadata.namespace, mesh.dns_domain),
        name=metadata.name,
        namespace=metadata.namespace,
        registry=Registry.KUBERNETES,
        ports=tuple(
            declared_services.declared_port(port.name, port.port, port.app_protocol, port.target_port)
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
    return (DeclaredService(service=service),)


def _warnings(spec: core.Service) -> Iterator[str]:
    for index, port in enumerate(spec.ports):
        if port.protocol is core.TransportProtocol.TCP:
            yield from declared_services.undeclared_protocol(
                f"spec.ports[{index}]", port.name, "appProtocol", port.app_protocol, port.port
            )


SERVICE: Final[Kind[core.Service, Declared]] = Kind(
    name="Service",
    spec=core.Service,
    api_versions=CORE,
    plural="services",
    view=_view,
    warnings=_warnings,
    claims=declared_services.host_claims,
    references=declared_services.port_collisions,
    touches=frozenset(PUSH_ORDER),
    narrow=declared_services.narrow,
    affected=declared_services.affected,
    traces=declared_services.traces,
)
