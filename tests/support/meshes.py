"""Small meshes for tests of the builders: specs as users write them, in a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode, Proxy, ProxyType
from controlplane.model.service import (
    Protocol,
    Registry,
    Resolution,
    Service,
    ServiceEndpoint,
    ServicePort,
    Workload,
)
from controlplane.model.snapshot import Config, MeshSnapshot, ResourceKey
from controlplane.model.view import View
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService

SpecT = TypeVar("SpecT", bound=Message)


def port(number: int, protocol: Protocol = Protocol.HTTP, name: str = "") -> ServicePort:
    return ServicePort(
        name=name or protocol.value.lower(), number=number, protocol=protocol, target_port=number
    )


def service(name: str, *ports: ServicePort, namespace: str = "default", **fields: Any) -> Service:
    return Service(
        **{
            "hostname": f"{name}.{namespace}.svc.cluster.local",
            "name": name,
            "namespace": namespace,
            "registry": Registry.KUBERNETES,
            "ports": ports or (port(9080),),
            "selector": {"app": name},
            **fields,
        }
    )


def external_service(
    host: str, *ports: ServicePort, resolution: Resolution = Resolution.DNS, **fields: Any
) -> Service:
    return Service(
        **{
            "hostname": host,
            "name": host,
            "namespace": "default",
            "registry": Registry.EXTERNAL,
            "ports": ports,
            "resolution": resolution,
            "mesh_external": True,
            **fields,
        }
    )


def workload(
    app: str, address: str, version: str = "v1", *, namespace: str = "default", **fields: Any
) -> Workload:
    return Workload(
        **{
            "name": f"{app}-{version}",
            "namespace": namespace,
            "address": address,
            "labels": {"app": app, "version": version},
            "service_account": f"bookinfo-{app}",
            "mesh_tls": True,
            **fields,
        }
    )


def endpoints_of(target: Service, workloads: Sequence[Workload]) -> tuple[ServiceEndpoint, ...]:
    return tuple(
        ServiceEndpoint(
            service_port=each.name,
            address=instance.address,
            port=int(each.target_port),
            workload=instance,
        )
        for instance in workloads
        for each in target.ports
    )


Specs = Mapping[str, Mapping[str, Any]]


def mesh(
    *services: tuple[Service, Sequence[Workload]],
    virtual_services: Specs | None = None,
    destination_rules: Specs | None = None,
    sidecars: Specs | None = None,
    peer_authentications: Specs | None = None,
    **mesh_config: Any,
) -> MeshSnapshot:
    """Specs are given by ``name`` (in the namespace ``default``) or ``namespace/name``, the oldest first."""
    return MeshSnapshot(
        generation=1,
        mesh_config=MeshConfig(**mesh_config),
        services={each.hostname: each for each, _ in services},
        endpoints={each.hostname: endpoints_of(each, workloads) for each, workloads in services},
        policies={
            "VirtualService": _configs(VirtualService, virtual_services),
            "DestinationRule": _configs(DestinationRule, destination_rules),
            "Sidecar": _configs(Sidecar, sidecars),
            "PeerAuthentication": _configs(PeerAuthentication, peer_authentications),
        },
    )


def _configs(model: type[SpecT], specs: Specs | None) -> tuple[Config[SpecT], ...]:
    return tuple(_config(model, key, spec) for key, spec in (specs or {}).items())


def _config(model: type[SpecT], key: str, spec: Mapping[str, Any]) -> Config[SpecT]:
    namespace, _, name = key.rpartition("/")
    resource = ResourceKey(kind=model.__name__, namespace=namespace or "default", name=name)
    return Config(key=resource, spec=model.model_validate(spec))


def sidecar_proxy(app: str = "productpage", version: str = "v1", **fields: Any) -> Proxy:
    return Proxy(
        **{
            "id": f"sidecar~10.0.0.1~{app}-{version}.default~default.svc.cluster.local",
            "type": ProxyType.SIDECAR,
            "namespace": "default",
            "workload": f"{app}-{version}",
            "ip": "10.0.0.1",
            "labels": {"app": app, "version": version},
            "service_account": f"bookinfo-{app}",
            "interception_mode": InterceptionMode.REDIRECT,
            **fields,
        }
    )


def grpc_proxy(**fields: Any) -> Proxy:
    return sidecar_proxy(**{"type": ProxyType.GRPC, **fields})


def kind_of(view: View) -> str:
    """The name of a kind that makes such views."""
    match view:
        case Config(key=key):
            return key.kind
        case Workload():
            return "WorkloadEntry"
        case _:
            return "ServiceEntry"
