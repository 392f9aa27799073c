"""Kubernetes' ``Namespace``: its metadata is kept, but not used by builders yet."""

from __future__ import annotations

from typing import Final

from controlplane.kinds.kind import Kind
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.snapshot import ResourceKey
from controlplane.resources.core import Namespace
from controlplane.resources.kind import CORE
from controlplane.resources.metadata import Metadata


def _view(_: ResourceKey, metadata: Metadata, __: Namespace, ___: MeshConfig) -> Metadata:
    return metadata


NAMESPACE: Final[Kind[Namespace, Metadata]] = Kind(
    name="Namespace",
    spec=Namespace,
    api_versions=CORE,
    plural="namespaces",
    namespaced=False,
    view=_view,
    touches=frozenset(),
)
