"""Reads and copies pods, which are JSON objects as the API server sends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.injection import names

JsonObject = dict[str, Any]


def annotations_of(pod: JsonObject) -> Mapping[str, str]:
    return (pod.get("metadata") or {}).get("annotations") or {}


def labels_of(pod: JsonObject) -> Mapping[str, str]:
    return (pod.get("metadata") or {}).get("labels") or {}


def section(parent: JsonObject, key: str) -> JsonObject:
    """Returns the object at ``key``, to be changed. Adds it if it is missing or null."""
    found = parent.get(key)
    if not isinstance(found, dict):
        found = parent[key] = {}
    return found


def items(parent: Mapping[str, Any], key: str) -> list[JsonObject]:
    """Returns the list at ``key``, or an empty one if it is missing or null."""
    return parent.get(key) or []


def all_containers(pod: JsonObject) -> Iterator[JsonObject]:
    """Yields the init containers and the containers."""
    yield from items(pod["spec"], "initContainers")
    yield from items(pod["spec"], "containers")


def app_containers(pod: JsonObject) -> list[JsonObject]:
    """Returns the containers (without the init containers) that are not ours."""
    return [c for c in items(pod["spec"], "containers") if c["name"] not in names.CONTAINERS]


def find(containers: list[JsonObject], name: str) -> JsonObject | None:
    return next((container for container in containers if container["name"] == name), None)


def serving_container(pod: JsonObject) -> JsonObject | None:
    """Returns the container that serves the metrics port: the agent of an Envoy, or else the proxy."""
    containers = list(all_containers(pod))
    return find(containers, names.AGENT) or find(containers, names.PROXY)


def env_value(container: JsonObject, name: str) -> str | None:
    """Returns the value of an environment variable, if it is a literal."""
    found = find(items(container, "env"), name)
    value = found.get("value") if found else None
    return value if isinstance(value, str) else None


def set_env(container: JsonObject, name: str, value: str) -> None:
    """Sets an environment variable of ``container``."""
    others = [variable for variable in items(container, "env") if variable["name"] != name]
    container["env"] = [*others, {"name": name, "value": value}]
