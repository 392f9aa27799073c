"""The input of the built-in templates."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.injection.config import Values
from controlplane.injection.overrides import Overrides
from controlplane.injection.owners import WorkloadOwner
from controlplane.injection.pod import JsonObject
from controlplane.injection.request import InjectionRequest
from controlplane.injection.settings import PodSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateContext:
    """``pod`` is the pod without the containers that have our names; ``overrides`` are these."""

    pod: JsonObject
    request: InjectionRequest
    settings: PodSettings
    overrides: Overrides
    owner: WorkloadOwner
    canonical_name: str

    @property
    def values(self) -> Values:
        return self.request.config.values

    @property
    def control_plane_address(self) -> str:
        return self.settings.proxy_config.discovery_address or self.values.address(self.request.revision)
