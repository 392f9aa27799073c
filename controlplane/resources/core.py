"""Kubernetes' ``v1`` ``Service`` and ``Namespace``: the fields that a mesh needs.

The other fields of Kubernetes are declared too, so that a misspelt field is noticed.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, field_validator, model_validator

from controlplane.resources.base import Host, Message, PortNumber, Str, invalid
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.metadata import Unread


class TransportProtocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


def _check_target_port(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if isinstance(value, str) and re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", value):
        return value
    raise invalid("should be a port number, or the name of a workload's port")


TargetPort = Annotated[int | str, PlainValidator(_check_target_port)]


class ServicePort(Message):
    """``ServicePort``. Without ``target_port``, the workload's port is ``port``."""

    name: Str = ""
    port: PortNumber
    target_port: TargetPort | None = None
    protocol: TransportProtocol = TransportProtocol.TCP
    app_protocol: Str | None = None
    node_port: Unread = None


def _check_cluster_ip(address: str) -> str:
    if address not in ("", "None") and not is_ip_address(address):
        raise invalid(f"{address!r:.80} is not an IP address, or None for a headless service")
    return address


def _without_final_dot(name: object) -> object:
    """Kubernetes accepts a fully qualified name with a final dot."""
    return name.removesuffix(".") if isinstance(name, str) else name


ClusterIP = Annotated[Str, AfterValidator(_check_cluster_ip)]


class ServiceType(StrEnum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class Service(Message):
    """``ServiceSpec``. ``cluster_ip`` is the string ``"None"`` for a headless service."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[Str, Str] = Field(default_factory=dict)
    type: ServiceType = ServiceType.CLUSTER_IP
    cluster_ip: Annotated[ClusterIP, Field(alias="clusterIP")] = ""
    cluster_ips: Annotated[tuple[ClusterIP, ...], Field(alias="clusterIPs")] = ()
    external_name: Annotated[Host | None, BeforeValidator(_without_final_dot)] = None
    allocate_load_balancer_node_ports: Unread = None
    external_ips: Annotated[Unread, Field(alias="externalIPs")] = None
    external_traffic_policy: Unread = None
    health_check_node_port: Unread = None
    internal_traffic_policy: Unread = None
    ip_families: Unread = None
    ip_family_policy: Unread = None
    load_balancer_class: Unread = None
    load_balancer_ip: Annotated[Unread, Field(alias="loadBalancerIP")] = None
    load_balancer_source_ranges: Unread = None
    publish_not_ready_addresses: Unread = None
    session_affinity: Unread = None
    session_affinity_config: Unread = None
    traffic_distribution: Unread = None

    @field_validator("ports")
    @classmethod
    def _distinct_ports(cls, ports: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
        if len({(port.port, port.protocol) for port in ports}) != len(ports):
            raise invalid("has a duplicate port number")
        if len({port.name for port in ports}) != len(ports):
            raise invalid("has a duplicate port name; several ports need names")
        return ports

    @model_validator(mode="after")
    def _external_name(self) -> Self:
        if self.type is ServiceType.EXTERNAL_NAME and not self.external_name:
            raise invalid("the type ExternalName needs `externalName`")
        return self


class Namespace(Message):
    """``NamespaceSpec``. Only the labels of a Namespace matter, which are metadata."""

    finalizers: Unread = None
