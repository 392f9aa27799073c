"""Whether what a proxy refuses may have been made of a resource. Pure.

A NACK carries the proxy's words and is about one response: its type, and the names in it, at least one of
which is wrong. What else was in the same response is behind it as well, since the proxy need not have taken
any of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from controlplane.model.conversion import View
from controlplane.model.hosts import HTTP_PORT
from controlplane.model.proxy import ProxyRejection
from controlplane.model.service import Workload
from controlplane.model.snapshot import Config
from controlplane.networking.names import HTTP_PROXY_ROUTES, OutboundName, parse_port
from controlplane.networking.scope import SidecarScope
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.hosts import covers
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.virtual_service import VirtualService

_OF_A_HEADLESS_SERVICE: Final = re.compile(r"^balanced\|")
_ALL_TYPES: Final = frozenset({"cds", "eds", "lds", "rds"})


def is_behind(view: View, rejection: ProxyRejection, scope: SidecarScope, hostnames: Collection[str]) -> bool:
    """``hostnames`` are the services that a workload is an endpoint of."""
    types, hosts = _traces(view, hostnames)
    if rejection.type not in types:
        return False
    if hosts is None or not rejection.names:
        return True
    ports = _ports(hosts, scope)
    return any(_is_made_of(name, rejection.type, hosts, ports) for name in rejection.names)


def _traces(view: View, hostnames: Collection[str]) -> tuple[frozenset[str], Collection[str] | None]:
    """The types that a resource is found in, and the hosts that their names tell of; None: any."""
    match view:
        case Config(spec=spec):
            return _traces_of_policy(spec)
        case Workload():
            return frozenset({"cds", "eds"}), hostnames
        case tuple():
            return _ALL_TYPES, [declared.service.hostname for declared in view]
        case _:
            return frozenset(), None


def _traces_of_policy(spec: Message) -> tuple[frozenset[str], Collection[str] | None]:
    match spec:
        case VirtualService():
            return frozenset({"rds", "lds"} if spec.tls or spec.tcp else {"rds"}), spec.hosts
        case DestinationRule():
            return frozenset({"cds", "eds", "lds"}), (spec.host,)
        case PeerAuthentication():
            return frozenset({"lds"}), None
        case _:  # a Sidecar
            return _ALL_TYPES, None


def _ports(hosts: Iterable[str], scope: SidecarScope) -> set[int]:
    ports: set[int] = set()
    for host in hosts:
        found = [host] if host in scope.destinations else []
        if host.startswith("*"):
            found = [hostname for hostname in scope.destinations if covers(host, hostname)]
        ports.update(
            port.number for name in found for each in scope.destinations[name] for port in each.ports
        )
        if not found:
            ports.add(HTTP_PORT)
    return ports


def _is_made_of(name: str, type_name: str, hosts: Iterable[str], ports: Collection[int]) -> bool:
    """By the names on the wire: ``outbound|9080|v1|reviews…``, ``9080``, ``http_proxy``, ``0.0.0.0_9080``;
    and gRPC's ``reviews…:9080``."""
    outbound = OutboundName.parse(_OF_A_HEADLESS_SERVICE.sub("outbound|", name))
    if outbound is not None:
        return any(covers(host, outbound.hostname) for host in hosts)
    if name == HTTP_PROXY_ROUTES:
        return True
    if type_name == "lds" and ":" in name:
        return any(covers(host, name.rpartition(":")[0]) for host in hosts)
    return parse_port(name.rpartition("_")[2]) in ports
