"""``networking.istio.io`` ``VirtualService``: the routes of hosts."""

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
    """``TCPRoute``: applies if one of ``match`` does, or if ``match`` is empty."""

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
    """``TLSRoute``: applies if one of ``match`` does. The proxy passes the TLS connection through."""

    match: Annotated[tuple[TLSMatchAttributes, ...], AtLeastOne]
    route: Annotated[tuple[WeightedDestination, ...], AtLeastOne, Weighted]


def concerns_mesh(rule: HTTPRoute | TLSRoute | TCPRoute) -> bool:
    """Whether a route may match traffic of a sidecar: not if all of its matches are for gateways."""
    return not rule.match or any(is_for_mesh(match.gateways) for match in rule.match)


class VirtualService(Message):
    """The routes of ``hosts``: the first route that matches applies."""

    gateways: tuple[Gateway, ...] = ()  # before `hosts`: their validator reads it
    hosts: Annotated[tuple[WildcardHost, ...], AtLeastOne]
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[ExportTo, ...] = ()

    @property
    def other_gateways(self) -> list[str]:
        """The names of all its gateways other than ``mesh``."""
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
        """Istio's rule, on the names as they are written: every server name is covered by one of the
        hosts."""
        for number, rule in enumerate(self.tls):
            for index, match in enumerate(rule.match):
                for name in match.sni_hosts:
                    if not any(covers(host, name) for host in self.hosts):
                        raise invalid(
                            f"tls[{number}].match[{index}].sniHosts: {name!r} is not covered by `hosts`"
                        )
        return self
