"""Istio's ``DestinationRule``: the traffic policies and the subsets of services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from controlplane.kinds.kind import Kind, Traces, Viewers
from controlplane.model.claim import Claim
from controlplane.model.hosts import export_scopes
from controlplane.model.in_force import Findings, InForce
from controlplane.model.kind import HostResolver, Touched, policy
from controlplane.model.proxy import ProxyProgress
from controlplane.model.snapshot import Config
from controlplane.networking.scope import SidecarScope
from controlplane.resources.destination_rule import ConnectionPoolSettings, DestinationRule
from controlplane.resources.hosts import covers
from controlplane.resources.kind import ISTIO_NETWORKING
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER

_Config = Config[DestinationRule]


def _qualify(spec: DestinationRule, resolve: HostResolver) -> DestinationRule:
    return spec.model_copy(update={"host": resolve(spec.host)})


def _claims(config: _Config) -> Iterator[Claim]:
    """Claims the host in the rule's namespace, so that a client sees only one rule of a namespace for a host.
    Which of the rules of several namespaces applies depends on the client's namespace."""
    yield Claim(
        subject=("destination rule", config.key.namespace, config.spec.host),
        scopes=export_scopes(config.spec.export_to, config.key.namespace),
        path="spec.host",
        description=f"the host {config.spec.host}",
        verb="configured",
        owner=config.key.namespace,
        order=config.order,
    )


def _references(config: _Config, in_force: InForce) -> Findings:
    host = config.spec.host
    return Findings(
        warnings=() if in_force.is_known(host) else (f"spec.host: no service has the host {host}",)
    )


def _narrow(before: _Config, after: _Config) -> Touched | None:
    """Load assignments depend on the labels of subsets, listeners on the timeouts of connections."""
    old, new = before.spec, after.spec
    if (old.host, old.export_to) != (new.host, new.export_to):
        return None
    types, endpoints = {CLUSTER}, frozenset[str]()
    if list(_pools(old)) != list(_pools(new)):
        types.add(LISTENER)
    if {each.name: each.labels for each in old.subsets} != {each.name: each.labels for each in new.subsets}:
        if new.host.startswith("*"):
            types.add(ENDPOINT)
        else:
            endpoints = frozenset({new.host})
    return Touched(types=frozenset(types), endpoints=endpoints)


def _pools(rule: DestinationRule) -> Iterator[tuple[int | None, ConnectionPoolSettings | None]]:
    """The connection pools of the host, by port. Listeners do not depend on those of subsets."""
    traffic_policy = rule.traffic_policy
    yield None, traffic_policy.connection_pool if traffic_policy else None
    for settings in traffic_policy.port_level_settings if traffic_policy else ():
        yield settings.port.number, settings.connection_pool


def _affected(config: _Config, viewers: Viewers) -> Sequence[ProxyProgress]:
    """The proxies that see a service to which the rule applies."""
    return viewers.all_if(_applies(config.spec, viewers.scope))


def _applies(rule: DestinationRule, scope: SidecarScope) -> bool:
    if rule.host.startswith("*"):
        found = [each for hostname, each in scope.destinations.items() if covers(rule.host, hostname)]
        services = list(chain.from_iterable(found))
    else:
        services = list(scope.destinations.get(rule.host, ()))
    return any(scope.destination_rules.find(service) is rule for service in services)


def _traces(config: _Config, _: Viewers) -> Traces:
    return Traces(types=frozenset({"cds", "eds", "lds"}), hosts=(config.spec.host,))


DESTINATION_RULE: Final[Kind[DestinationRule, _Config]] = Kind(
    name="DestinationRule",
    spec=DestinationRule,
    api_versions=ISTIO_NETWORKING,
    plural="destinationrules",
    short_names=("dr",),
    columns={"Host": ".spec.host"},
    view=policy(_qualify),
    claims=_claims,
    references=_references,
    # Clusters contain the policies, load assignments depend on the subsets too, and listeners on the idle
    # timeouts of connections.
    touches=frozenset({CLUSTER, ENDPOINT, LISTENER}),
    narrow=_narrow,
    affected=_affected,
    traces=_traces,
)
