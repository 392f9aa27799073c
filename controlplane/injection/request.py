"""The input and the result of an injection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.injection import names
from controlplane.injection.config import InjectionConfig
from controlplane.injection.pod import JsonObject
from controlplane.model.mesh_config import MeshConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRequest:
    """What an injection depends on besides the pod. ``native_sidecars``: the kubelets of all nodes are new
    enough."""

    namespace: str
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_annotations: Mapping[str, str] = field(default_factory=dict)
    config: InjectionConfig
    mesh_config: MeshConfig
    native_sidecars: bool
    revision: str = names.DEFAULT_REVISION


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """The result: ``pod`` is the given one if it is not ``injected``, for the reason ``skipped``."""

    pod: JsonObject
    injected: bool
    skipped: str = ""
    warnings: tuple[str, ...] = ()
