"""``networking.istio.io`` ``ServiceEntry``: services that no Kubernetes Service declares."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from controlplane.resources.base import (
    AtLeastOne,
    ExportTo,
    IpRange,
    Message,
    NonEmptyStr,
    PortNumber,
    Str,
    WildcardHost,
    WorkloadSelector,
    invalid,
)
from controlplane.resources.ip_addresses import is_ip_address
from controlplane.resources.workload_entry import WorkloadEntry


class Location(StrEnum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


def _refuse_dynamic_dns(value: object) -> object:
    if value == "DYNAMIC_DNS":
        raise invalid("DYNAMIC_DNS is not supported yet")
    return value


class Resolution(StrEnum):
    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"


PROTOCOLS = ("HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "MYSQL", "REDIS")


def _check_protocol(protocol: str) -> str:
    if protocol and protocol.upper() not in PROTOCOLS:
        raise invalid(f"{protocol!r:.80} is not one of {', '.join(PROTOCOLS)}")
    return protocol.upper()


PortProtocol = Annotated[
    Str, AfterValidator(_check_protocol), Field(description=f"One of {', '.join(PROTOCOLS)}.")
]


class ServicePort(Message):
    """``ServicePort``. ``target_port`` 0 means ``number``."""

    number: PortNumber
    name: NonEmptyStr
    protocol: PortProtocol = ""
    target_port: PortNumber | None = None


class ServiceEntry(Message):
    """Services that Kubernetes does not know: their hosts, ports and endpoints."""

    hosts: Annotated[tuple[WildcardHost, ...], AtLeastOne]
    addresses: tuple[IpRange, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Annotated[Resolution, BeforeValidator(_refuse_dynamic_dns)] = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[ExportTo, ...] = ()
    subject_alt_names: tuple[NonEmptyStr, ...] = ()

    @field_validator("hosts")
    @classmethod
    def _no_catch_all(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        if "*" in hosts:
            raise invalid("`*` matches every host: name a domain, such as *.example.com")
        return hosts

    @field_validator("ports")
    @classmethod
    def _distinct_ports(cls, ports: tuple[ServicePort, ...]) -> tuple[ServicePort, ...]:
        if len({port.number for port in ports}) != len(ports):
            raise invalid("has a duplicate port number")
        if len({port.name for port in ports}) != len(ports):
            raise invalid("has a duplicate port name")
        return ports

    @model_validator(mode="after")
    def _endpoints_fit_the_resolution(self) -> Self:
        if self.workload_selector and not self.workload_selector.labels:
            raise invalid("`workloadSelector` needs `labels`: without labels it selects nothing")
        if self.endpoints and self.workload_selector:
            raise invalid("should have only one of `endpoints` and `workloadSelector`")
        if self.resolution is Resolution.NONE and self.endpoints:
            raise invalid("`endpoints` are not allowed with the resolution NONE")
        if self.resolution is Resolution.STATIC:
            self._check_static_endpoints()
        if self.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN) and not self.endpoints:
            self._check_resolvable_hosts()
        return self

    def _check_static_endpoints(self) -> None:
        for endpoint in self.endpoints:
            if not is_ip_address(endpoint.address):
                raise invalid(
                    f"the resolution STATIC needs IP addresses; the endpoint {endpoint.address!r} is not one"
                )

    def _check_resolvable_hosts(self) -> None:
        for host in self.hosts:
            if host.startswith("*") and not self.workload_selector:
                raise invalid(f"the host {host!r} cannot be resolved by DNS without `endpoints`")
