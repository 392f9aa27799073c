"""What one resource says of others: that they exist, and that they are what it takes them for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from controlplane.errors import ResourceError
from controlplane.model.declarations import declarations_for
from controlplane.model.hosts import HTTP_PORT, HostIndex, export_scopes
from controlplane.model.record import Version
from controlplane.model.rule_index import RuleIndex
from controlplane.model.service import Protocol, Service
from controlplane.model.snapshot import Config
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.hosts import covers
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import (
    Destination,
    HTTPRoute,
    TCPRoute,
    TLSRoute,
    VirtualService,
    concerns_mesh,
    is_for_mesh,
)

# The ports that follow the routes of each field of a VirtualService.
_FOLLOWERS: Mapping[str, Callable[[Protocol], bool]] = {
    "http": lambda protocol: protocol.is_http,
    "tls": lambda protocol: protocol.is_tls,
    "tcp": lambda protocol: not (protocol.is_http or protocol.is_tls),
}


# Of a list, in a warning.
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """``request_ports`` are those that the requests for it come to, as far as the mesh knows them."""

    path: str
    destination: Destination
    request_ports: frozenset[int]


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
        self._answered: dict[str, bool] = {}  # by host: many routes have one

    def unresolved(self, version: Version) -> list[str]:
        """The destinations of a VirtualService that are no known service, no port or no subset of it, and
        what becomes of requests for them. They concern nothing else of it: the proxy has no such cluster, and
        answers by itself (``validate_clusters`` is off)."""
        config = cast("Config[VirtualService]", version.view)
        return [
            f"{error}: {_without_cluster(reference.path)}"
            for reference in self._references(config.spec, config.key.namespace)
            for error in self._destination(reference, config.key.namespace)
        ]

    def warnings(self, version: Version) -> list[str]:
        """What a VirtualService or a DestinationRule says in vain, such as hosts that no service declares."""
        config = cast("Config[Message]", version.view)
        match config.spec:
            case VirtualService(hosts=hosts) as spec:
                unknown = (
                    f"spec.hosts[{index}]: no service has the host {host}"
                    for index, host in enumerate(hosts)
                    if not self._is_known(host)
                )
                unseen = self._unseen_elsewhere(spec, config.key.namespace)
                return [*unknown, *self._without_effect(spec), *unseen]
            case DestinationRule(host=host) if not self._is_known(host):
                return [f"spec.host: no service has the host {host}"]
            case _:
                return []

    def _unseen_elsewhere(self, spec: VirtualService, owner: str) -> Iterator[str]:
        """Of destinations that its own namespace sees, and others that see the route do not."""
        viewers = sorted(export_scopes(spec.export_to, owner) - {owner})
        for reference in self._references(spec, owner) if viewers else ():
            lacking = [viewer for viewer in viewers if any(self._destination(reference, viewer))]
            if lacking and not any(self._destination(reference, owner)):
                who = "other namespaces" if "*" in lacking else f"the namespaces {', '.join(lacking)}"
                yield f"{reference.path}: {who} see this route, but not what it leads to"

    def _without_effect(self, spec: VirtualService) -> Iterator[str]:
        """Of routes that no port of a service follows, for what its protocol is."""
        for host in spec.hosts:
            if host.startswith("*") and spec.http:
                yield from self._unsaid_below(host)
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

    def _unsaid_below(self, pattern: str) -> Iterator[str]:
        """One warning for all services that a wildcard covers."""
        unsaid = [
            f"{hostname}:{port.number}"
            for hostname, services in sorted(self._services.items())
            if hostname != pattern and covers(pattern, hostname)
            for service in services
            for port in service.ports
            if port.protocol is Protocol.UNSUPPORTED
        ]
        if unsaid:
            more = f" and {len(unsaid) - _MOST_NAMES} more" if len(unsaid) > _MOST_NAMES else ""
            yield (
                "spec.http: has no effect on redirected connections to ports whose protocol is not said: "
                f"{', '.join(unsaid[:_MOST_NAMES])}{more}"
            )

    def unknown_imports(self, version: Version, routes: Iterable[Config[VirtualService]]) -> list[str]:
        """The hosts of a Sidecar's egress that are neither a service's nor a VirtualService's."""
        config = cast("Config[Sidecar]", version.view)
        known: dict[str, set[str]] = defaultdict(set)  # the namespaces that have a host
        for hostname, services in self._services.items():
            known[hostname].update(service.namespace for service in services)
        for route in routes:
            for host in route.spec.hosts:
                known[host].add(route.key.namespace)
        words = []
        for number, listener in enumerate(config.spec.egress):
            for index, each in enumerate(listener.hosts):
                owner, _, host = each.partition("/")
                owners = known.get(host, set())
                wanted = config.key.namespace if owner == "." else owner
                if "*" not in host and owner != "~" and not (owners if owner == "*" else wanted in owners):
                    words.append(
                        f"spec.egress[{number}].hosts[{index}]: no service has the host {host} there"
                    )
        return words

    def _is_known(self, host: str) -> bool:
        return self._known_hosts.find(host) is not None or self._is_answered(host)

    def _is_answered(self, host: str) -> bool:
        """By a service; a wildcard by any service that it covers."""
        if host not in self._answered:
            self._answered[host] = host in self._services or (
                host.startswith("*") and any(covers(host, hostname) for hostname in self._services)
            )
        return self._answered[host]

    def _references(self, spec: VirtualService, namespace: str) -> Iterator[_Reference]:
        for field in _FOLLOWERS:
            for number, route in enumerate(getattr(spec, field)):
                ports = self._request_ports(spec, field, route, namespace)
                for index, weighted in enumerate(route.route if concerns_mesh(route) else ()):
                    yield _Reference(
                        path=f"spec.{field}[{number}].route[{index}].destination",
                        destination=weighted.destination,
                        request_ports=ports,
                    )

    def _request_ports(
        self, spec: VirtualService, field: str, route: HTTPRoute | TLSRoute | TCPRoute, namespace: str
    ) -> frozenset[int]:
        follows = _FOLLOWERS[field]
        ports = {
            port.number
            for host in spec.hosts
            for service in declarations_for(namespace, self._services.get(host, ()))
            for port in service.ports
            if follows(port.protocol)
        }
        if field == "http" and not all(map(self._is_answered, spec.hosts)):
            ports.add(HTTP_PORT)
        matched = {match.port for match in route.match if is_for_mesh(match.gateways)}
        return frozenset(ports if None in matched or not matched else ports & matched)

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
        # A destination that names no port means the service's only one, or else the request's.
        if destination.port is None and len(numbers) != 1:
            for number in sorted(reference.request_ports.difference(numbers)):
                ports = ", ".join(map(str, numbers)) or "none"
                reason = f"is not said, and {destination.host} has no port {number}, as requests have"
                yield ResourceError(f"{reference.path}.port", f"{reason}; its ports: {ports}")
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
