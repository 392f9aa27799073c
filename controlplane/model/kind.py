"""The part of a kind's descriptor that the store and the validator read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from controlplane.model.claim import Claim
from controlplane.model.hosts import resolve_short_name
from controlplane.model.in_force import Findings, InForce
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.snapshot import Config, ResourceKey
from controlplane.model.view import View
from controlplane.resources.base import Message
from controlplane.resources.kind import ResourceKind
from controlplane.resources.metadata import Metadata

SpecT = TypeVar("SpecT", bound=Message)
ViewT = TypeVar("ViewT", bound=View)

HostResolver = Callable[[str], str]
Account = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The xDS resources that may differ after a change: all of ``types``, and the load assignments of
    ``endpoints``, which are services by hostname."""

    types: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()


def _no_warnings(_: Any) -> Iterable[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind(ResourceKind[SpecT], Generic[SpecT, ViewT]):
    """``view`` converts a spec; `policy` makes a ``view`` for kinds that the snapshot contains unchanged.
    ``warnings`` describe parts of a valid spec that may surprise its author.

    ``claims`` are the things that only one resource may have (see `Claim`). ``references``: checks the
    references to other resources. A kind with either is validated again whenever a resource of any such kind
    changes. ``service_account``: the account that a resource names.

    ``touches``: the type URLs of the xDS resources that any change of a resource may alter. Changes of
    endpoints are computed separately. ``narrow`` returns the alterations of a change between two versions if
    they are fewer, or else None. A missing type would leave proxies with outdated configuration.
    """

    view: Callable[[ResourceKey, Metadata, SpecT, MeshConfig], ViewT]
    touches: frozenset[str]
    warnings: Callable[[SpecT], Iterable[str]] = _no_warnings
    claims: Callable[[ViewT], Iterable[Claim]] | None = None
    references: Callable[[ViewT, InForce], Findings] | None = None
    service_account: Callable[[ViewT], Account | None] | None = None
    narrow: Callable[[ViewT, ViewT], Touched | None] | None = None

    @property
    def depends_on_others(self) -> bool:
        return self.claims is not None or self.references is not None

    def touched(self, before: ViewT | None, after: ViewT | None) -> Touched:
        """The types that a change of the version in force may alter. A version is None when the resource is
        not in force."""
        if self.narrow is not None and before is not None and after is not None:
            narrowed = self.narrow(before, after)
            if narrowed is not None:
                return narrowed
        return Touched(types=self.touches)


def _as_written(spec: SpecT, _: HostResolver) -> SpecT:
    return spec


def policy(
    qualify: Callable[[SpecT, HostResolver], SpecT] = _as_written,
) -> Callable[[ResourceKey, Metadata, SpecT, MeshConfig], Config[SpecT]]:
    """The ``view`` of a policy: its spec, in which ``qualify`` has replaced short host names."""

    def view(key: ResourceKey, metadata: Metadata, spec: SpecT, mesh: MeshConfig) -> Config[SpecT]:
        def resolve(host: str) -> str:
            return resolve_short_name(host, metadata.namespace, mesh.dns_domain)

        order = metadata.creation_timestamp or "", metadata.namespace, metadata.name
        return Config(key=key, spec=qualify(spec, resolve), order=order)

    return view
