"""Checks the references of a VirtualService: its hosts, and the services, ports and subsets that it routes
to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from controlplane.errors import ResourceError
from controlplane.model.declarations import declarations_for
from controlplane.model.hosts import HTTP_PORT, export_scopes
from controlplane.model.in_force import Findings, InForce
from controlplane.model.service import Protocol, Service
from controlplane.model.snapshot import Config
from controlplane.resources.hosts import covers
from controlplane.resources.http_route import HTTPRoute
from controlplane.resources.route_destination import Destination, is_for_mesh
from controlplane.resources.virtual_service import TCPRoute, TLSRoute, VirtualService, concerns_mesh

# The protocols of the ports whose traffic follows the routes of each field.
_FOLLOWERS: Final[Mapping[str, Callable[[Protocol], bool]]] = {
    "http": lambda protocol: protocol.is_http,
    "tls": lambda protocol: protocol.is_tls,
    "tcp": lambda protocol: not (protocol.is_http or protocol.is_tls),
}

# The longest list in a warning.
_MOST_NAMES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """``request_ports`` are the known ports to which clients send requests for the destination."""

    path: str
    destination: Destination
    request_ports: frozenset[int]


def check_destinations(config: Config[VirtualService], in_force: InForce) -> Findings:
    """A destination that does not exist affects only its own traffic: the proxy has no such cluster, and
    replies with an error itself (``validate_clusters`` is off)."""
    checks = _Checks(config, in_force)
    return Findings(warnings=tuple(checks.warnings()), unresolved=tuple(checks.unresolved()))


class _Checks:
    def __init__(self, config: Config[VirtualService], in_force: InForce) -> None:
        self._spec = config.spec
        self._namespace = config.key.namespace
        self._in_force = in_force

    def unresolved(self) -> Iterator[str]:
        for reference in self._references():
            for error in self._faults(reference, self._namespace):
                yield f"{error}: {_consequence(reference.path)}"

    def warnings(self) -> Iterator[str]:
        for index, host in enumerate(self._spec.hosts):
            if not self._in_force.is_known(host):
                yield f"spec.hosts[{index}]: no service has the host {host}"
        yield from self._routes_without_effect()
        yield from self._invisible_elsewhere()

    def _invisible_elsewhere(self) -> Iterator[str]:
        """Finds destinations that the route's own namespace sees, but that some other namespaces which see
        the route do not see."""
        viewers = sorted(export_scopes(self._spec.export_to, self._namespace) - {self._namespace})
        for reference in self._references() if viewers else ():
            lacking = [viewer for viewer in viewers if any(self._faults(reference, viewer))]
            if lacking and not any(self._faults(reference, self._namespace)):
                who = "other namespaces" if "*" in lacking else f"the namespaces {', '.join(lacking)}"
                yield f"{reference.path}: {who} see this route, but not its destination"

    def _routes_without_effect(self) -> Iterator[str]:
        """Finds routes that no traffic follows, because of the protocols of the ports."""
        for host in self._spec.hosts:
            if host.startswith("*") and self._spec.http:
                yield from self._undeclared_below(host)
            ports = [port for service in self._in_force.services.get(host, ()) for port in service.ports]
            undeclared = [port.number for port in ports if port.protocol is Protocol.UNSUPPORTED]
            for number in undeclared if self._spec.http else ():
                yield (
                    f"spec.http: has no effect on redirected connections to port {number} of {host}: "
                    "its protocol is not declared"
                )
            for field, follows in _FOLLOWERS.items():
                found = any(follows(port.protocol) for port in ports) or (field == "http" and undeclared)
                if ports and getattr(self._spec, field) and not found:
                    yield f"spec.{field}: has no effect: {host} has no port with a matching protocol"

    def _undeclared_below(self, pattern: str) -> Iterator[str]:
        """One warning for all services that a wildcard covers."""
        undeclared = [
            f"{hostname}:{port.number}"
            for hostname, services in sorted(self._in_force.services.items())
            if hostname != pattern and covers(pattern, hostname)
            for service in services
            for port in service.ports
            if port.protocol is Protocol.UNSUPPORTED
        ]
        if undeclared:
            more = f" and {len(undeclared) - _MOST_NAMES} more" if len(undeclared) > _MOST_NAMES else ""
            yield (
                "spec.http: has no effect on redirected connections to ports whose protocol is not declared: "
                f"{', '.join(undeclared[:_MOST_NAMES])}{more}"
            )

    def _references(self) -> Iterator[_Reference]:
        for field in _FOLLOWERS:
            for number, route in enumerate(getattr(self._spec, field)):
                ports = self._request_ports(field, route)
                for index, weighted in enumerate(route.route if concerns_mesh(route) else ()):
                    yield _Reference(
                        path=f"spec.{field}[{number}].route[{index}].destination",
                        destination=weighted.destination,
                        request_ports=ports,
                    )

    def _request_ports(self, field: str, route: HTTPRoute | TLSRoute | TCPRoute) -> frozenset[int]:
        follows = _FOLLOWERS[field]
        ports = {
            port.number
            for host in self._spec.hosts
            for service in self._declarations(host, self._namespace)
            for port in service.ports
            if follows(port.protocol)
        }
        if field == "http" and not all(map(self._in_force.is_answered, self._spec.hosts)):
            ports.add(HTTP_PORT)
        matched = {match.port for match in route.match if is_for_mesh(match.gateways)}
        return frozenset(ports if None in matched or not matched else ports & matched)

    def _declarations(self, host: str, namespace: str) -> tuple[Service, ...]:
        return declarations_for(namespace, self._in_force.services.get(host, ()))

    def _faults(self, reference: _Reference, namespace: str) -> Iterator[ResourceError]:
        """Describes the part of a destination that is missing for the clients of a namespace."""
        destination = reference.destination
        declarations = self._declarations(destination.host, namespace)
        if not declarations:
            reason = f"no service that {namespace} can see has the host {destination.host}"
            yield ResourceError(f"{reference.path}.host", reason)
            return
        numbers = [port.number for service in declarations for port in service.ports]
        ports = ", ".join(map(str, numbers)) or "none"
        if destination.port is not None and destination.port.number not in numbers:
            reason = f"{destination.host} has no port {destination.port.number}; its ports: {ports}"
            yield ResourceError(f"{reference.path}.port.number", reason)
        # Without a port, a destination means the service's only port, or else the port of the request.
        if destination.port is None and len(numbers) != 1:
            for number in sorted(reference.request_ports.difference(numbers)):
                reason = f"is missing, and {destination.host} has no port {number}, the port of the requests"
                yield ResourceError(f"{reference.path}.port", f"{reason}; its ports: {ports}")
        if destination.subset is not None:
            yield from self._subset_faults(reference, destination.subset, declarations[0], namespace)

    def _subset_faults(
        self, reference: _Reference, subset: str, service: Service, namespace: str
    ) -> Iterator[ResourceError]:
        rule = self._in_force.rules.find(service, namespace)
        path = f"{reference.path}.subset"
        if rule is None:
            reason = f"subset {subset!r} does not exist: no DestinationRule applies to {service.hostname}"
            yield ResourceError(path, reason)
            return
        names = [each.name for each in rule.spec.subsets]
        if subset not in names:
            known = ", ".join(names) or "none"
            yield ResourceError(path, f"{rule.key} has no subset {subset!r}; its subsets: {known}")


def _consequence(path: str) -> str:
    if path.startswith("spec.http"):
        return "requests for it get 503 (NC)"
    return "connections for it are closed (NC)"
