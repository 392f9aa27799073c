"""``networking.istio.io`` ``Sidecar``: the listeners of a workload's proxy, and the services that it
imports."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from controlplane.resources.base import (
    LABEL,
    AtLeastOne,
    IpAddress,
    Message,
    NonEmptyStr,
    NotSupportedYet,
    PortNumber,
    Str,
    WorkloadSelector,
    check_wildcard_host,
    invalid,
)
from controlplane.resources.deprecation import Deprecated
from controlplane.resources.service_entry import PortProtocol


class CaptureMode(StrEnum):
    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class SidecarPort(Message):
    """``SidecarPort``: the port of a listener."""

    number: PortNumber
    name: NonEmptyStr
    protocol: PortProtocol
    target_port: Annotated[
        PortNumber | None,
        Deprecated("is ignored, as in Istio: set `defaultEndpoint`"),
    ] = None


_ENDPOINT = re.compile(r"(127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]):([0-9]{1,5})")


def _check_default_endpoint(endpoint: str) -> str:
    if endpoint.startswith("unix://"):
        raise invalid("Unix domain sockets are not supported yet")
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise invalid(f"{endpoint!r:.80} should be 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or [::]:PORT")
    return endpoint


DefaultEndpoint = Annotated[
    Str,
    AfterValidator(_check_default_endpoint),
    Field(description="The application's address: 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or [::]:PORT."),
]


class IstioIngressListener(Message):
    """``IstioIngressListener``. Without ``default_endpoint`` a captured connection goes to the address that
    the caller dialled, and another one to the same port of loopback."""

    port: SidecarPort
    bind: IpAddress | None = None
    capture_mode: CaptureMode = CaptureMode.DEFAULT
    default_endpoint: DefaultEndpoint | None = None
    tls: NotSupportedYet = None
    connection_pool: NotSupportedYet = None


_EGRESS_NAMESPACE = re.compile(rf"[.*~]|{LABEL}")


def _check_egress_host(value: str) -> str:
    namespace, slash, host = value.partition("/")
    if not slash or not _EGRESS_NAMESPACE.fullmatch(namespace):
        raise invalid(f"{value!r:.80} should be NAMESPACE/HOST, such as ./*, */reviews.example.com or ~/*")
    return f"{namespace}/{check_wildcard_host(host)}"


# `namespace/host`; the namespace may be `.`, `*` or `~` (none).
EgressHost = Annotated[
    Str,
    AfterValidator(_check_egress_host),
    Field(description="NAMESPACE/HOST, such as ./*, */reviews.example.com or ~/*."),
]


class IstioEgressListener(Message):
    """``IstioEgressListener``: the services that the workload may reach."""

    hosts: Annotated[tuple[EgressHost, ...], AtLeastOne]
    port: NotSupportedYet = None
    bind: NotSupportedYet = None
    capture_mode: NotSupportedYet = None


class OutboundTrafficPolicyMode(StrEnum):
    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class OutboundTrafficPolicy(Message):
    """``OutboundTrafficPolicy``: the handling of traffic to hosts that the mesh does not know."""

    mode: OutboundTrafficPolicyMode = OutboundTrafficPolicyMode.REGISTRY_ONLY
    egress_proxy: NotSupportedYet = None


class Sidecar(Message):
    """The listeners of a workload's proxy, and the services that it imports. Without a selector it applies to
    the whole namespace; in the root namespace it is the default of the mesh."""

    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IstioIngressListener, ...] = ()
    egress: tuple[IstioEgressListener, ...] = ()
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_connection_pool: NotSupportedYet = None

    @field_validator("ingress")
    @classmethod
    def _distinct_ports(cls, ingress: tuple[IstioIngressListener, ...]) -> tuple[IstioIngressListener, ...]:
        if len({listener.port.number for listener in ingress}) != len(ingress):
            raise invalid("has a duplicate listener port")
        return ingress

    @field_validator("egress")
    @classmethod
    def _one_listener(cls, egress: tuple[IstioEgressListener, ...]) -> tuple[IstioEgressListener, ...]:
        if len(egress) > 1:
            raise invalid(
                "should have one listener without a port; others need `port`, which is not supported yet"
            )
        return egress
