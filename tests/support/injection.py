"""Pods and requests for tests of the injector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controlplane.injection.config import InjectionConfig
from controlplane.injection.injector import inject
from controlplane.injection.names import PROXY
from controlplane.injection.pod import JsonObject
from controlplane.injection.request import Injection, InjectionRequest
from controlplane.model.mesh_config import MeshConfig


def pod(
    *,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    metadata: JsonObject | None = None,
    container: JsonObject | None = None,
    **spec: Any,
) -> JsonObject:
    """A pod with the container `web`, with the fields ``container``, unless ``spec`` has other containers."""
    web = {"name": "web", "image": "example.com/web:1", **(container or {})}
    return {
        "metadata": {
            "name": "web",
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
            **(metadata or {}),
        },
        "spec": {"containers": [web], **spec},
    }


def request(*, config: str = "", mesh: MeshConfig | None = None, **changes: Any) -> InjectionRequest:
    settings: dict[str, Any] = {"namespace": "shop", "native_sidecars": True} | changes
    return InjectionRequest(
        config=InjectionConfig.parse(config), mesh_config=mesh or MeshConfig(), **settings
    )


def injected(given: JsonObject, **settings: Any) -> JsonObject:
    """Returns the injected pod."""
    return injection(given, **settings).pod


def injection(given: JsonObject, **settings: Any) -> Injection:
    return inject(given, request(**settings))


def container(given: JsonObject, name: str = PROXY) -> JsonObject:
    spec = given["spec"]
    [found] = [c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == name]
    return found


def names(given: JsonObject, key: str) -> list[str]:
    """The names of the items of a list of the pod's spec."""
    return [item["name"] for item in given["spec"].get(key, [])]


def environment(given: JsonObject, name: str = PROXY) -> dict[str, str]:
    """The variables of a container that have a value."""
    return {
        variable["name"]: variable["value"]
        for variable in container(given, name)["env"]
        if "value" in variable
    }


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """What a container gets where its pod has ``text``, for values without dollars."""
    for name, value in variables.items():
        text = text.replace(f"$({name})", value)
    return text.replace("$$", "$")


def status(given: JsonObject) -> JsonObject:
    parsed: JsonObject = json.loads(given["metadata"]["annotations"]["sidecar.istio.io/status"])
    return parsed
