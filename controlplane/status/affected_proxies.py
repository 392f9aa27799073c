"""Selects the connected proxies that a resource affects, and counts those that have it. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from controlplane.kinds.kind import Kind, Viewers
from controlplane.kinds.registry import KINDS
from controlplane.model.proxy import ProxyProgress, ProxyRejection
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.view import View
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.scope import SidecarScope, scope_of, sidecar_of
from controlplane.status.rejections import is_behind

_GENERATION: Final = attrgetter("generation")


Refusal = tuple[str, ProxyRejection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The progress of one version of a resource among proxies. ``refusals`` are those of proxies that have
    not accepted it: the proxy's id and its rejection, sorted by id, so that messages about them are
    stable."""

    concerned: int = 0
    acknowledged: int = 0
    refusals: tuple[Refusal, ...] = ()


class AffectedProxies:
    """The proxies that resources of one snapshot affect. ``view`` is that of the version in force."""

    def __init__(
        self,
        cache: BuildCache,
        snapshot: MeshSnapshot,
        proxies: Iterable[ProxyProgress],
        kinds: Mapping[str, Kind[Any, Any]] = KINDS,
    ) -> None:
        self._kinds: Final = kinds
        self._viewers: Final = list(_viewers(cache, snapshot, proxies))

    def reach(self, kind_name: str, view: View, since: int) -> Reach:
        """``since``: the generation of the snapshot that brought this version of the resource."""
        kind = self._kinds[kind_name]
        concerned = acknowledged = 0
        refusals: list[Refusal] = []
        for viewers in self._viewers:
            proxies = kind.affected(view, viewers)
            late = proxies[: bisect_left(proxies, since, key=_GENERATION)]
            concerned += len(proxies)
            acknowledged += len(proxies) - len(late)
            traces = kind.traces(view, viewers)
            for each in late:
                behind = [one for one in each.rejections if is_behind(traces, one, viewers.scope)]
                refusals += ((each.proxy.id, one) for one in behind)
                # The proxy may have rejected something that has nothing to do with this resource.
                acknowledged += each.answered >= since and not behind
        refusals.sort(key=lambda each: (each[0], each[1].type))
        return Reach(concerned=concerned, acknowledged=acknowledged, refusals=tuple(refusals))


def _viewers(
    cache: BuildCache, snapshot: MeshSnapshot, proxies: Iterable[ProxyProgress]
) -> Iterator[Viewers]:
    by_scope: dict[int, tuple[SidecarScope, list[ProxyProgress]]] = {}
    for each in proxies:
        scope = scope_of(cache, snapshot, each.proxy)
        by_scope.setdefault(id(scope), (scope, []))[1].append(each)
    hostnames_by_workload = _hostnames_by_workload(snapshot)
    for scope, alike in by_scope.values():
        yield Viewers(
            scope=scope,
            sidecar=sidecar_of(snapshot, alike[0].proxy),  # one Sidecar decides a scope
            virtual_services=frozenset(map(id, scope.virtual_services)),
            hostnames_by_workload=hostnames_by_workload,
            proxies=sorted(alike, key=_GENERATION),
        )


def _hostnames_by_workload(snapshot: MeshSnapshot) -> Mapping[int, set[str]]:
    """The hostnames of each workload, by the identity of its object."""
    hostnames: dict[int, set[str]] = defaultdict(set)
    for hostname, endpoints in snapshot.endpoints.items():
        for endpoint in endpoints:
            hostnames[id(endpoint.workload)].add(hostname)
    return hostnames
