"""The descriptor of a kind: everything about it except its builders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from controlplane.model.kind import ModelKind
from controlplane.model.proxy import ProxyProgress
from controlplane.model.view import View
from controlplane.networking.scope import SidecarScope
from controlplane.resources.base import Message
from controlplane.resources.sidecar import Sidecar
from protos.type_urls import SHORT_NAMES

SpecT = TypeVar("SpecT", bound=Message)
ViewT = TypeVar("ViewT", bound=View)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewers:
    """Connected proxies that share a scope, the least advanced first. ``virtual_services`` are the identities
    of the VirtualServices in the scope; ``sidecar`` is the Sidecar resource that covers the proxies.
    ``hostnames_by_workload`` are the services of which a workload is an endpoint, by the identity of the
    workload's view."""

    scope: SidecarScope
    sidecar: Sidecar | None
    virtual_services: frozenset[int]
    hostnames_by_workload: Mapping[int, Collection[str]]
    proxies: Sequence[ProxyProgress]

    def all_if(self, affected: bool) -> Sequence[ProxyProgress]:
        return self.proxies if affected else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The xDS resources that are made from a resource: their types, as in `protos.type_urls.SHORT_NAMES`,
    and the hosts that their names contain (None means any host)."""

    types: frozenset[str] = frozenset()
    hosts: Iterable[str] | None = None


ALL_TYPES = frozenset(SHORT_NAMES.values())


def _no_proxies(_: Any, __: Viewers) -> Sequence[ProxyProgress]:
    return ()


def _no_resources(_: Any, __: Viewers) -> Traces:
    return Traces()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(ModelKind[SpecT, ViewT], Generic[SpecT, ViewT]):
    """``affected`` selects the proxies whose configuration depends on a resource. ``traces`` returns the xDS
    resources whose rejection the resource may have caused. ``has_destinations``: its status has the condition
    ``ResolvedRefs``, which lists the destinations that ``references`` finds unresolved."""

    affected: Callable[[ViewT, Viewers], Sequence[ProxyProgress]] = _no_proxies
    traces: Callable[[ViewT, Viewers], Traces] = _no_resources
    has_destinations: bool = False
