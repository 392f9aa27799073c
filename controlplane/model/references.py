"""What one resource says of others: that they exist, and that they are what it takes them for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from controlplane.errors import ResourceError
from controlplane.model.declarations import declarations_for
from controlplane.model.hosts import HostIndex
from controlplane.model.record import Version
from controlplane.model.rule_index import RuleIndex
from controlplane.model.service import Protocol, Service
from controlplane.model.snapshot import Config
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.hosts import covers
from controlplane.resources.virtual_service import (
    Destination,
    HTTPRoute,
    TCPRoute,
    TLSRoute,
    VirtualService,
    concerns_mesh,
)

# The ports that follow the routes of each field of a VirtualService.
_FOLLOWERS: Mapping[str, Callable[[Protocol], bool]] = {
    "http": lambda protocol: protocol.is_http,
    "tls": lambda protocol: protocol.is_tls,
    "tcp": lambda protocol: not (protocol.is_http or protocol.is_tls),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    path: str
    destination: Destination


class ReferenceCheck:
    """Checks policies against the services and the rules that are in force."""

    def __init__(
        self,
        services: Iterable[Service],
        rules: Iterable[Config[DestinationRule]],
        root_namespace: str,
    ) -> None:
        self._services: dict[str, list[Service]] = defaultdict(list)
        for service in services:
            self._services[service.hostname].append(service)
        self._known_hosts = HostIndex((hostname, hostname) for hostname in self._services)
        self._rules = RuleIndex(rules, root_namespace)

    def unresolved(self, version: Version) -> list[str]:
        """The destinations of a VirtualService that are no known service, no port or no subset of it, and
        what becomes of requests for them. They concern nothing else of it: the proxy has no such cluster, and
        answers by itself (``validate_clusters`` is off)."""
        config = cast("Config[VirtualService]", version.view)
        return [
            f"{error}: {_without_cluster(reference.path)}"
            for reference in _references(config.spec)
            for error in self._destination(reference, config.key.namespace)
        ]

    def warnings(self, version: Version) -> list[str]:
        """The hosts of a VirtualService or a DestinationRule that no service declares yet."""
        match cast("Config[Message]", version.view).spec:
            case VirtualService(hosts=hosts) as spec:
                unknown = (
                    f"spec.hosts[{index}]: no service has the host {host}"
                    for index, host in enumerate(hosts)
                    if not self._is_known(host)
                )
                return [*unknown, *self._without_effect(spec)]
            case DestinationRule(host=host) if not self._is_known(host):
                return [f"spec.host: no service has the host {host}"]
            case _:
                return []

    def _without_effect(self, spec: VirtualService) -> Iterator[str]:
        """Of routes that no port of a service follows, for what its protocol is."""
        for host in spec.hosts:
            ports = [port for service in self._services.get(host, ()) for port in service.ports]
            unsaid = [port.number for port in ports if port.protocol is Protocol.UNSUPPORTED]
            for number in unsaid if spec.http else ():
                yield (
                    f"spec.http: has no effect on redirected connections to port {number} of {host}: "
                    "its protocol is not said"
                )
            for field, follows in _FOLLOWERS.items():
                found = any(follows(port.protocol) for port in ports) or (field == "http" and unsaid)
                if ports and getattr(spec, field) and not found:
                    yield f"spec.{field}: has no effect: {host} has no port of such a protocol"

    def _is_known(self, host: str) -> bool:
        if self._known_hosts.find(host) is not None:
            return True
        return host.startswith("*") and any(covers(host, hostname) for hostname in self._services)

    def _destination(self, reference: _Reference, namespace: str) -> Iterator[ResourceError]:
        destination = reference.destination
        declarations = declarations_for(namespace, self._services.get(destination.host, ()))
        if not declarations:
            reason = f"no service that {namespace} can see has the host {destination.host}"
            yield ResourceError(f"{reference.path}.host", reason)
            return
        numbers = [port.number for service in declarations for port in service.ports]
        if destination.port is not None and destination.port.number not in numbers:
            ports = ", ".join(map(str, numbers)) or "none"
            reason = f"{destination.host} has no port {destination.port.number}; its ports: {ports}"
            yield ResourceError(f"{reference.path}.port.number", reason)
        if destination.subset is not None:
            yield from self._subset(reference, destination.subset, declarations[0], namespace)

    def _subset(
        self, reference: _Reference, subset: str, service: Service, namespace: str
    ) -> Iterator[ResourceError]:
        rule = self._rules.find(service, namespace)
        path = f"{reference.path}.subset"
        if rule is None:
            yield ResourceError(
                path, f"{subset!r} is no subset: no DestinationRule is for {service.hostname}"
            )
            return
        names = [each.name for each in rule.spec.subsets]
        if subset not in names:
            known = ", ".join(names) or "none"
            yield ResourceError(path, f"{rule.key} has no subset {subset!r}; its subsets: {known}")


def _without_cluster(path: str) -> str:
    if path.startswith("spec.http"):
        return "requests for it get 503 (NC)"
    return "connections for it are closed (NC)"


def _references(spec: VirtualService) -> Iterator[_Reference]:
    routes: list[tuple[str, HTTPRoute | TLSRoute | TCPRoute]] = [
        *((f"spec.http[{index}]", route) for index, route in enumerate(spec.http)),
        *((f"spec.tls[{index}]", route) for index, route in enumerate(spec.tls)),
        *((f"spec.tcp[{index}]", route) for index, route in enumerate(spec.tcp)),
    ]
    for path, route in routes:
        for index, weighted in enumerate(route.route if concerns_mesh(route) else ()):
            yield _Reference(path=f"{path}.route[{index}].destination", destination=weighted.destination)
