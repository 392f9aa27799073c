"""The part of a kind's descriptor that documents, API servers and kubectl see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from controlplane.resources.base import Message

SpecT = TypeVar("SpecT", bound=Message)

CORE: Final = ("v1",)
ISTIO_NETWORKING: Final = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
ISTIO_SECURITY: Final = tuple(f"security.istio.io/{version}" for version in ("v1", "v1beta1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceKind(Generic[SpecT]):
    """``spec`` is the model of the field ``spec``. ``api_versions`` are all of one API group, the newest
    first. ``plural``, ``short_names`` and ``columns`` (title to JSON path) are those of the CRD; use Istio's.
    """

    name: str
    spec: type[SpecT]
    api_versions: tuple[str, ...]
    plural: str
    short_names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for Kubernetes' core group."""
        group, slash, _ = self.api_versions[0].partition("/")
        return group if slash else ""

    @property
    def is_core(self) -> bool:
        """Whether Kubernetes itself defines the kind. Such a kind has no CRD, and its status is not ours."""
        return not self.group

    @property
    def paths(self) -> tuple[str, ...]:
        """The URL paths under which an API server lists the kind, in all namespaces: one for each version."""
        root = "/api" if self.is_core else "/apis"
        return tuple(f"{root}/{version}/{self.plural}" for version in self.api_versions)
