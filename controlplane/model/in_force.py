"""The resources that are in force, indexed for the checks of the references that resources make to others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from controlplane.model.collisions import PortCollisions
from controlplane.model.hosts import HostIndex
from controlplane.model.rule_index import RuleIndex
from controlplane.model.service import Service
from controlplane.model.snapshot import Config
from controlplane.resources.hosts import covers


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The warnings of a check. ``unresolved``: the destinations that do not exist, and what happens to
    their traffic."""

    warnings: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()


class InForce:
    """``services`` are the declarations by hostname, ``policies`` the policies by kind."""

    def __init__(
        self,
        services: Iterable[Service],
        policies: Mapping[str, tuple[Config[Any], ...]],
        root_namespace: str,
    ) -> None:
        self.services: Final[dict[str, list[Service]]] = defaultdict(list)
        for service in services:
            self.services[service.hostname].append(service)
        self.policies: Final = policies
        self.rules: Final = RuleIndex(policies.get("DestinationRule", ()), root_namespace)
        self._known_hosts = HostIndex((hostname, hostname) for hostname in self.services)
        self._answered: dict[str, bool] = {}  # by host: many routes have the same destination

    def is_known(self, host: str) -> bool:
        """Whether a service declares the host, a wildcard that covers it or, if the host is a wildcard, a
        host that it covers."""
        return self._known_hosts.find(host) is not None or self.is_answered(host)

    def is_answered(self, host: str) -> bool:
        """Whether a service has this very host; for a wildcard, whether it covers a service."""
        if host not in self._answered:
            self._answered[host] = host in self.services or (
                host.startswith("*") and any(covers(host, hostname) for hostname in self.services)
            )
        return self._answered[host]

    @cached_property
    def collisions(self) -> PortCollisions:
        return PortCollisions(service for services in self.services.values() for service in services)

    @cached_property
    def owners_by_host(self) -> Mapping[str, set[str]]:
        """The namespaces that declare a host or route it, by host."""
        owners: dict[str, set[str]] = defaultdict(set)
        for hostname, services in self.services.items():
            owners[hostname].update(service.namespace for service in services)
        for route in self.policies.get("VirtualService", ()):
            for host in route.spec.hosts:
                owners[host].add(route.key.namespace)
        return owners
