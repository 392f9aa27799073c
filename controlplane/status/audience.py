"""Which of the connected proxies a resource concerns, and how many of them have it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.model.conversion import DeclaredService, View
from controlplane.model.hosts import covers
from controlplane.model.proxy import Proxy, ProxyProgress
from controlplane.model.service import Workload
from controlplane.model.snapshot import Config, MeshSnapshot
from controlplane.networking.peer_authentication import covers_workload
from controlplane.networking.scope import SidecarScope, scope_of, sidecar_of
from controlplane.resources.base import Message
from controlplane.resources.destination_rule import DestinationRule
from controlplane.resources.peer_authentication import PeerAuthentication
from controlplane.resources.sidecar import Sidecar
from controlplane.resources.virtual_service import VirtualService


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a version of a resource has come. ``rejecting`` is a proxy that has not taken it and refuses
    something, which ``rejection`` names in its words."""

    concerned: int = 0
    acknowledged: int = 0
    rejecting: str = ""
    rejection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Proxies that see the same and have the same labels: whatever concerns one of them concerns all.
    ``virtual_services`` by identity; ``generations`` are how far each has come, in ascending order."""

    scope: SidecarScope
    sidecar: Sidecar | None
    virtual_services: frozenset[int]
    labels: Mapping[str, str]
    generations: tuple[int, ...]
    rejecting: tuple[ProxyProgress, ...]


class Audience:
    """Of one snapshot. Resources are asked for by what the store has in force of them."""

    def __init__(self, snapshot: MeshSnapshot, proxies: Iterable[ProxyProgress]) -> None:
        self._snapshot = snapshot
        self._groups = list(_groups(snapshot, proxies))
        self._hostnames_by_workload = _hostnames_by_workload(snapshot)

    def reach(self, view: View, since: int) -> Reach:
        """``since``: the generation of the snapshot that brought this version of the resource."""
        groups = [group for group in self._groups if self._concerns(view, group)]
        late = (proxy for group in groups for proxy in group.rejecting if proxy.generation < since)
        # Always the same one of several, so that the words stand still.
        rejecting = min(late, key=lambda proxy: proxy.proxy.id, default=None)
        return Reach(
            concerned=sum(len(group.generations) for group in groups),
            acknowledged=sum(
                len(group.generations) - bisect_left(group.generations, since) for group in groups
            ),
            rejecting=rejecting.proxy.id if rejecting else "",
            rejection=rejecting.rejection if rejecting else "",
        )

    def _concerns(self, view: View, group: _Group) -> bool:
        scope = group.scope
        match view:
            case Config():
                return _counts(view, group)
            case Workload():
                hostnames = self._hostnames_by_workload.get(id(view), ())
                return any(hostname in scope.services for hostname in hostnames)
            case tuple():
                return any(_sees(declared, scope) for declared in view)
            case _:
                return False


def _counts(config: Config[Message], group: _Group) -> bool:
    """Whether a policy has a say in what the proxies are sent."""
    scope = group.scope
    match config.spec:
        case VirtualService():
            return id(config) in group.virtual_services
        case DestinationRule() as rule:
            return _rules(rule, scope)
        case Sidecar() as sidecar:
            return group.sidecar is sidecar
        case PeerAuthentication() as policy:
            owner = config.key.namespace
            return covers_workload(policy, owner, scope.mesh_config, scope.namespace, group.labels)
        case _:
            return False


def _groups(snapshot: MeshSnapshot, proxies: Iterable[ProxyProgress]) -> Iterator[_Group]:
    members: dict[object, list[ProxyProgress]] = defaultdict(list)
    visible: dict[int, frozenset[int]] = {}  # scopes are shared, and there are few
    for each in proxies:
        scope = scope_of(snapshot, each.proxy)
        visible[id(scope)] = visible.get(id(scope)) or frozenset(map(id, scope.virtual_services))
        members[id(scope), frozenset(each.proxy.labels.items())].append(each)
    for alike in members.values():
        proxy: Proxy = alike[0].proxy
        scope = scope_of(snapshot, proxy)
        yield _Group(
            scope=scope,
            sidecar=sidecar_of(snapshot, proxy),
            virtual_services=visible[id(scope)],
            labels=proxy.labels,
            generations=tuple(sorted(each.generation for each in alike)),
            rejecting=tuple(each for each in alike if each.rejection),
        )


def _hostnames_by_workload(snapshot: MeshSnapshot) -> Mapping[int, set[str]]:
    """By the identity of what a WorkloadEntry is to the snapshot."""
    hostnames: dict[int, set[str]] = defaultdict(set)
    for hostname, endpoints in snapshot.endpoints.items():
        for endpoint in endpoints:
            hostnames[id(endpoint.workload)].add(hostname)
    return hostnames


def _rules(rule: DestinationRule, scope: SidecarScope) -> bool:
    """Whether it is the rule of a service that is visible."""
    services = scope.services
    hostnames = (
        [hostname for hostname in services if covers(rule.host, hostname)]
        if rule.host.startswith("*")
        else [rule.host] * (rule.host in services)
    )
    return any(scope.destination_rules.find(services[hostname]) is rule for hostname in hostnames)


def _sees(declared: DeclaredService, scope: SidecarScope) -> bool:
    return scope.services.get(declared.service.hostname) is declared.service
