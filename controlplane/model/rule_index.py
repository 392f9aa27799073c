"""Finds the DestinationRule that applies to a service for the clients of a namespace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from controlplane.model.hosts import HostIndex, export_rank, exported_to
from controlplane.model.service import Service
from controlplane.model.snapshot import Config
from controlplane.resources.destination_rule import DestinationRule

Rule = Config[DestinationRule]


class RuleIndex:
    """Istio's order: the rules of the client's namespace, then of the service's, then of the root namespace.
    In each, the rule for the most specific host applies."""

    def __init__(self, rules: Iterable[Rule], root_namespace: str) -> None:
        self._root_namespace = root_namespace
        self._rules: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._rules[rule.key.namespace].append(rule)
        self._seen: dict[tuple[str, str], HostIndex[Rule]] = {}

    def find(self, service: Service, client_namespace: str) -> Rule | None:
        for owner in (client_namespace, service.namespace, self._root_namespace):
            rule = self._seen_by(client_namespace, owner).find(service.hostname)
            if rule is not None:
                return rule
        return None

    def _seen_by(self, client_namespace: str, owner: str) -> HostIndex[Rule]:
        """The rules of ``owner`` that are exported to the client's namespace."""
        index = self._seen.get((client_namespace, owner))
        if index is None:
            seen = [
                rule
                for rule in self._rules.get(owner, ())
                if exported_to(rule.spec.export_to, owner, client_namespace)
            ]
            seen.sort(key=lambda rule: export_rank(rule.spec.export_to, owner, client_namespace))
            index = HostIndex((rule.spec.host, rule) for rule in seen)
            self._seen[client_namespace, owner] = index
        return index
