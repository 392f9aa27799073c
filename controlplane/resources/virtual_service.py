"""``networking.istio.io`` ``VirtualService``: where the traffic to a host goes."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ValidationInfo, field_validator, model_validator

from controlplane.resources.base import (
    AtLeastOne,
    ExportTo,
    IpRange,
    Message,
    NotSupportedYet,
    PortNumber,
    WildcardHost,
    invalid,
)
from controlplane.resources.hosts import covers
from controlplane.resources.http_route import HTTPRoute
from controlplane.resources.route_destination import (
    MESH,
    Gateway,
    Weighted,
    WeightedDestination,
    is_for_mesh,
)


class L4MatchAttributes(Message):
    """``L4MatchAttributes``: all conditions must hold."""

    port: PortNumber | None = None
    destination_subnets: tuple[IpRange, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    source_labels: NotSupportedYet = None
    source_namespace: NotSupportedYet = None
    source_subnet: NotSupportedYet = None


class TCPRoute(Message):
    """``TCPRoute``: any of ``match`` (none: every connection), and where it goes."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: Annotated[tuple[WeightedDestination, ...], AtLeastOne, Weighted]


class TLSMatchAttributes(Message):
    """``TLSMatchAttributes``: all conditions must hold."""

    sni_hosts: Annotated[tuple[WildcardHost, ...], AtLeastOne]
    port: PortNumber | None = None
    destination_subnets: tuple[IpRange, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    source_labels: NotSupportedYet = None
    source_namespace: NotSupportedYet = None


class TLSRoute(Message):
    """``TLSRoute``: any of ``match``, and where the connection goes, its TLS untouched."""

    match: Annotated[tuple[TLSMatchAttributes, ...], AtLeastOne]
    route: Annotated[tuple[WeightedDestination, ...], AtLeastOne, Weighted]


def concerns_mesh(rule: HTTPRoute | TLSRoute | TCPRoute) -> bool:
    """Whether a route may take what a sidecar sends: not where all that it matches comes to a gateway."""
    return not rule.match or any(is_for_mesh(match.gateways) for match in rule.match)


class VirtualService(Message):
    """Where the traffic to ``hosts`` goes: the first route that matches decides."""

    gateways: tuple[Gateway, ...] = ()  # before `hosts`, which are checked by them
    hosts: Annotated[tuple[WildcardHost, ...], AtLeastOne]
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[ExportTo, ...] = ()

    @property
    def other_gateways(self) -> list[str]:
        """The names of all gateways, other than ``mesh``, that it is for."""
        rules: tuple[HTTPRoute | TLSRoute | TCPRoute, ...] = (*self.http, *self.tls, *self.tcp)
        of_matches = (name for rule in rules for match in rule.match for name in match.gateways)
        return sorted({*self.gateways, *of_matches} - {MESH})

    @field_validator("hosts")
    @classmethod
    def _hosts_of_the_mesh(cls, hosts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "*" in hosts and is_for_mesh(info.data.get("gateways", ("",))):
            raise invalid("`*` is not allowed for the gateway `mesh`")
        if len(set(hosts)) != len(hosts):
            raise invalid("has a duplicate host")
        return hosts

    @model_validator(mode="after")
    def _some_route(self) -> Self:
        if not (self.http or self.tls or self.tcp):
            raise invalid("should have `http`, `tls` or `tcp` routes")
        return self

    @model_validator(mode="after")
    def _server_names_are_of_its_hosts(self) -> Self:
        """Istio's rule, by the names as they are written: no server name of a host that is another's."""
        for number, rule in enumerate(self.tls):
            for index, match in enumerate(rule.match):
                for name in match.sni_hosts:
                    if not any(covers(host, name) for host in self.hosts):
                        raise invalid(
                            f"tls[{number}].match[{index}].sniHosts: {name!r} is not covered by `hosts`"
                        )
        return self
