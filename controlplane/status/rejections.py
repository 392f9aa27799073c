"""Decides whether a resource may be the cause of a proxy's rejection. Pure.

A NACK is about one response: it has a message of the proxy, the response's type and the names in it, at least
one of which is invalid. Every resource of that response counts as a possible cause, since the proxy need not
have accepted any of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from controlplane.kinds.kind import Traces
from controlplane.model.hosts import HTTP_PORT
from controlplane.model.proxy import ProxyRejection
from controlplane.networking.addresses import split_authority
from controlplane.networking.names import HTTP_PROXY_ROUTES, OutboundName, parse_port
from controlplane.networking.scope import SidecarScope
from controlplane.resources.hosts import covers
from protos.type_urls import NAME_TABLE, SHORT_NAMES

_OF_A_HEADLESS_SERVICE: Final = re.compile(r"^balanced\|")


def is_behind(traces: Traces, rejection: ProxyRejection, scope: SidecarScope) -> bool:
    """``traces`` are those of the resource."""
    if rejection.type not in traces.types:
        return False
    if rejection.type == SHORT_NAMES[NAME_TABLE]:  # one resource for all hosts; the message names one
        return any(f"table[{host}]" in rejection.reason for host in traces.hosts or ())
    if traces.hosts is None or not rejection.names:
        return True
    ports = _ports(traces.hosts, scope)
    return any(_is_made_of(name, rejection.type, traces.hosts, ports) for name in rejection.names)


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
    """Decides by the names on the wire: ``outbound|9080|v1|reviews…``, ``9080``, ``http_proxy``,
    ``0.0.0.0_9080``, and ``reviews…:9080`` for gRPC."""
    outbound = OutboundName.parse(_OF_A_HEADLESS_SERVICE.sub("outbound|", name))
    if outbound is not None:
        return any(covers(host, outbound.hostname) for host in hosts)
    if name == HTTP_PROXY_ROUTES:
        return True
    if type_name == "lds" and ":" in name:
        return any(covers(host, split_authority(name)[0]) for host in hosts)
    return parse_port(name.rpartition("_")[2]) in ports
