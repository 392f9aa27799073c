"""Ports of services whose connections a transparent sidecar cannot distinguish: it knows only their original
destination.

The host of a request identifies an HTTP service, the server name a TLS service, and the address any other
service. A plain TCP service without a virtual IP has none of these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import attrgetter

from controlplane.model.hosts import export_scopes
from controlplane.model.service import Service, ServicePort

_WITH_DNS_CAPTURE = ", except for proxies that capture DNS"


class PortCollisions:
    """The collisions among the services in force."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._sharing: dict[int, list[tuple[Service, ServicePort]]] = defaultdict(list)
        for service in sorted(services, key=attrgetter("seniority")):
            for port in service.ports:
                if port.protocol.is_http or _is_by_port_alone(service, port):
                    self._sharing[port.number].append((service, port))

    def warnings(self, service: Service) -> Iterator[str]:
        """Names the services that receive the service's connections: an HTTP service if there is one, or else
        the oldest."""
        for port in service.ports:
            if not _is_by_port_alone(service, port):
                continue
            sharing = [each for each in self._sharing[port.number] if _are_seen_together(each[0], service)]
            if not sharing:  # not even itself: no namespace sees it (`~`)
                continue
            winner = next((each for each, other in sharing if other.protocol.is_http), sharing[0][0])
            if winner is not service:
                yield (
                    f"spec.ports: redirected connections to {service.hostname}:{port.number} go to "
                    f"{winner.hostname}: no virtual IP distinguishes them"
                    + (_WITH_DNS_CAPTURE if service.automatic_address or winner.automatic_address else "")
                )


def _is_by_port_alone(service: Service, port: ServicePort) -> bool:
    return not (port.protocol.is_http or port.protocol.is_tls or service.addresses or service.headless)


def _are_seen_together(one: Service, other: Service) -> bool:
    first, second = (export_scopes(each.export_to, each.namespace) for each in (one, other))
    if "*" in first | second:
        return bool(first and second)
    return not first.isdisjoint(second)
