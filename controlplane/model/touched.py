"""What a change of one resource can differ in what proxies are sent: derived from what the builders read.

A kind's descriptor has the types that any of its changes can touch; here is what narrows them for the changes
that come often. To leave one out that can be touched would leave proxies with what was: a test compares
random changes with builds from nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from controlplane.model.conversion import DeclaredService, View
from controlplane.model.snapshot import Config
from controlplane.resources.destination_rule import ConnectionPoolSettings, DestinationRule
from controlplane.resources.registry import KINDS
from controlplane.resources.virtual_service import VirtualService, concerns_mesh
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """``types`` are those in which any resource may differ; of ``endpoints``, which are services by their
    host name, the load assignments may."""

    types: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()


_NOTHING: Final = Touched()


def touched(kind: str, before: View | None, after: View | None) -> Touched:
    """By a change from one version in force to another; None: no version is in force."""
    match before, after:
        case Config(spec=VirtualService() as old), Config(spec=VirtualService() as new):
            if _leads_to_the_same_hosts(old, new):
                return Touched(types=frozenset({ROUTE}))
        case Config(spec=DestinationRule() as old), Config(spec=DestinationRule() as new):
            return _by_rule(old, new)
        case tuple(), tuple():
            if _differ_in_labels_alone(before, after):
                return _NOTHING
    return Touched(types=KINDS[kind].touches)


def _leads_to_the_same_hosts(old: VirtualService, new: VirtualService) -> bool:
    """Whether HTTP routes alone differ, and not in the services that they make visible: those have clusters
    and listeners."""
    same = old.model_copy(update={"http": ()}) == new.model_copy(update={"http": ()})
    return same and set(_hosts(old)) == set(_hosts(new))


def _hosts(spec: VirtualService) -> Iterator[str]:
    for rule in filter(concerns_mesh, spec.http):
        yield from (weighted.destination.host for weighted in rule.route)


def _by_rule(old: DestinationRule, new: DestinationRule) -> Touched:
    """Load assignments differ by the labels of subsets, listeners by timeouts of connections."""
    if (old.host, old.export_to) != (new.host, new.export_to):
        return Touched(types=KINDS["DestinationRule"].touches)
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
    """Those of the host: its listeners know no subsets."""
    policy = rule.traffic_policy
    yield None, policy.connection_pool if policy else None
    for settings in policy.port_level_settings if policy else ():
        yield settings.port.number, settings.connection_pool


def _differ_in_labels_alone(before: tuple[DeclaredService, ...], after: tuple[DeclaredService, ...]) -> bool:
    return [*map(_without_labels, before)] == [*map(_without_labels, after)]


def _without_labels(declared: DeclaredService) -> DeclaredService:
    """A service's own labels are shown, and select nothing."""
    return replace(declared, service=replace(declared.service, labels={}))
