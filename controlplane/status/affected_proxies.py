"""Which of the connected proxies a resource concerns, and how many of them have it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Final

from controlplane.model.conversion import DeclaredService, View
from controlplane.model.proxy import ProxyProgress, ProxyRejection
from controlplane.model.service import Workload
from controlplane.model.snapshot import Config, MeshSnapshot
from controlplane.networking.peer_authentication import covers_workload
from controlplane.networking.scope import SidecarScope, scope_of, sidecar_of
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.hosts import covers
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService
from controlplane.status.rejections import is_behind

_GENERATION: Final = attrgetter("generation")


Refusal = tuple[str, ProxyRejection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a version of a resource has come. ``refusals`` are those of proxies that have not taken it: the
    proxy's id, and what it refuses; in the order of the ids, so that words about them stand still."""

    concerned: int = 0
    acknowledged: int = 0
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Viewers:
    """The proxies that share a scope. ``virtual_services`` are those in it, by identity; ``proxies`` come
    the least advanced first."""

    scope: SidecarScope
    sidecar: Sidecar | None
    virtual_services: frozenset[int]
    proxies: Sequence[ProxyProgress]


class AffectedProxies:
    """Of one snapshot. Resources are asked for by what the store has in force of them."""

    def __init__(self, snapshot: MeshSnapshot, proxies: Iterable[ProxyProgress]) -> None:
        self._viewers = list(_viewers(snapshot, proxies))
        self._hostnames_by_workload = _hostnames_by_workload(snapshot)

    def reach(self, view: View, since: int) -> Reach:
        """``since``: the generation of the snapshot that brought this version of the resource."""
        concerned = acknowledged = 0
        refusals: list[Refusal] = []
        for viewers in self._viewers:
            proxies = self._concerned(view, viewers)
            late = proxies[: bisect_left(proxies, since, key=_GENERATION)]
            concerned += len(proxies)
            acknowledged += len(proxies) - len(late)
            for each in late:
                behind = [one for one in each.rejections if self._is_behind(view, one, viewers.scope)]
                refusals += ((each.proxy.id, one) for one in behind)
                # What it refuses may have nothing to do with this resource.
                acknowledged += each.answered >= since and not behind
        refusals.sort(key=lambda each: (each[0], each[1].type))
        return Reach(concerned=concerned, acknowledged=acknowledged, refusals=tuple(refusals))

    def _is_behind(self, view: View, rejection: ProxyRejection, scope: SidecarScope) -> bool:
        return is_behind(view, rejection, scope, self._hostnames_by_workload.get(id(view), ()))

    def _concerned(self, view: View, viewers: _Viewers) -> Sequence[ProxyProgress]:
        match view:
            case Config():
                return _ruled(view, viewers)
            case Workload():
                hostnames = self._hostnames_by_workload.get(id(view), ())
                sees = any(hostname in viewers.scope.destinations for hostname in hostnames)
            case tuple():
                sees = any(_sees(declared, viewers.scope) for declared in view)
            case _:
                sees = False
        return viewers.proxies if sees else ()


def _viewers(snapshot: MeshSnapshot, proxies: Iterable[ProxyProgress]) -> Iterator[_Viewers]:
    by_scope: dict[int, tuple[SidecarScope, list[ProxyProgress]]] = {}
    for each in proxies:
        scope = scope_of(snapshot, each.proxy)
        by_scope.setdefault(id(scope), (scope, []))[1].append(each)
    for scope, alike in by_scope.values():
        yield _Viewers(
            scope=scope,
            sidecar=sidecar_of(snapshot, alike[0].proxy),  # a scope comes of one Sidecar
            virtual_services=frozenset(map(id, scope.virtual_services)),
            proxies=sorted(alike, key=_GENERATION),
        )


def _hostnames_by_workload(snapshot: MeshSnapshot) -> Mapping[int, set[str]]:
    """By the identity of what a WorkloadEntry is to the snapshot."""
    hostnames: dict[int, set[str]] = defaultdict(set)
    for hostname, endpoints in snapshot.endpoints.items():
        for endpoint in endpoints:
            hostnames[id(endpoint.workload)].add(hostname)
    return hostnames


def _ruled(config: Config[Message], viewers: _Viewers) -> Sequence[ProxyProgress]:
    """Those of them in whose configuration a policy has a say."""
    match config.spec:
        case VirtualService():
            rules = id(config) in viewers.virtual_services
        case DestinationRule() as rule:
            rules = _is_rule(rule, viewers.scope)
        case Sidecar() as sidecar:
            rules = viewers.sidecar is sidecar
        case PeerAuthentication() as policy:
            return _covered(policy, config.key.namespace, viewers)
        case _:
            rules = False
    return viewers.proxies if rules else ()


def _covered(policy: PeerAuthentication, owner: str, viewers: _Viewers) -> Sequence[ProxyProgress]:
    scope = viewers.scope
    return [
        each
        for each in viewers.proxies
        if covers_workload(policy, owner, scope.mesh_config, scope.namespace, each.proxy.labels)
    ]


def _is_rule(rule: DestinationRule, scope: SidecarScope) -> bool:
    """Whether it is the one for a service that is visible."""
    if rule.host.startswith("*"):
        found = [each for hostname, each in scope.destinations.items() if covers(rule.host, hostname)]
        services = list(chain.from_iterable(found))
    else:
        services = list(scope.destinations.get(rule.host, ()))
    return any(scope.destination_rules.find(service) is rule for service in services)


def _sees(declared: DeclaredService, scope: SidecarScope) -> bool:
    return any(each is declared.service for each in scope.destinations.get(declared.service.hostname, ()))
