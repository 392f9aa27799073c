"""Reads and copies pods, which are JSON objects as the API server sends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.errors import InjectionError
from controlplane.injection import names
from controlplane.resources.base import NonEmptyStr, Str
from controlplane.resources.error_messages import explain

JsonObject = dict[str, Any]


class _Part(BaseModel):
    """The fields of an object that the injector reads. Other fields are not checked: the API server does."""

    model_config = ConfigDict(extra="ignore", validate_by_alias=True)


class _Named(_Part):
    name: NonEmptyStr


class _Port(_Part):
    container_port: Annotated[int, Field(alias="containerPort", strict=True, ge=1, le=65535)]
    name: Str | None = None
    protocol: Str | None = None


class _Mount(_Part):
    mount_path: Annotated[Str, Field(alias="mountPath")]


class _SecurityContext(_Part):
    run_as_user: Annotated[int | None, Field(alias="runAsUser", strict=True)] = None
    run_as_group: Annotated[int | None, Field(alias="runAsGroup", strict=True)] = None


class _Handler(_Part):
    http_get: Annotated[dict[Str, Any] | None, Field(alias="httpGet")] = None
    tcp_socket: Annotated[dict[Str, Any] | None, Field(alias="tcpSocket")] = None
    grpc: dict[Str, Any] | None = None


class _Lifecycle(_Part):
    post_start: Annotated[_Handler | None, Field(alias="postStart")] = None
    pre_stop: Annotated[_Handler | None, Field(alias="preStop")] = None


class _Container(_Named):
    image: Str | None = None
    args: list[Str] | None = None
    env: list[_Named] | None = None
    ports: list[_Port] | None = None
    volume_mounts: Annotated[list[_Mount] | None, Field(alias="volumeMounts")] = None
    security_context: Annotated[_SecurityContext | None, Field(alias="securityContext")] = None
    readiness_probe: Annotated[_Handler | None, Field(alias="readinessProbe")] = None
    liveness_probe: Annotated[_Handler | None, Field(alias="livenessProbe")] = None
    startup_probe: Annotated[_Handler | None, Field(alias="startupProbe")] = None
    lifecycle: _Lifecycle | None = None


class _Owner(_Part):
    api_version: Annotated[Str, Field(alias="apiVersion")]
    kind: NonEmptyStr
    name: NonEmptyStr
    controller: bool | None = None


class _Metadata(_Part):
    name: Str | None = None
    generate_name: Annotated[Str | None, Field(alias="generateName")] = None
    namespace: Str | None = None
    labels: dict[Str, Str] | None = None
    annotations: dict[Str, Str] | None = None
    owner_references: Annotated[list[_Owner] | None, Field(alias="ownerReferences")] = None


class _Spec(_Part):
    containers: list[_Container]
    init_containers: Annotated[list[_Container] | None, Field(alias="initContainers")] = None
    volumes: list[_Named] | None = None
    image_pull_secrets: Annotated[list[_Part] | None, Field(alias="imagePullSecrets")] = None
    host_network: Annotated[bool | None, Field(alias="hostNetwork", strict=True)] = None
    dns_policy: Annotated[Str | None, Field(alias="dnsPolicy")] = None


class _Pod(_Part):
    metadata: _Metadata | None = None
    spec: _Spec


class _PartialSpec(_Spec):
    containers: list[_Container] | None = None  # type: ignore[assignment]


class _PartialPod(_Part):
    model_config = ConfigDict(extra="forbid")

    api_version: Annotated[Str | None, Field(alias="apiVersion")] = None
    kind: Str | None = None
    metadata: _Metadata | None = None
    spec: _PartialSpec | None = None


def check(pod: object) -> None:
    """Checks the parts of a pod that the injector reads. Raises `InjectionError`: a pod that comes from the
    API server is valid, but a file can contain anything."""
    try:
        _Pod.model_validate(pod)
    except ValidationError as error:
        raise InjectionError("; ".join(map(str, explain(error, _Pod, "pod")))) from error


def check_partial(pod: object) -> None:
    """Checks a partial pod, which can be merged into a pod. Raises `InjectionError`."""
    try:
        _PartialPod.model_validate(pod)
    except ValidationError as error:
        raise InjectionError("; ".join(map(str, explain(error, _PartialPod, "template")))) from error
    if directive := _directive(pod):
        raise InjectionError(f"the directive {directive!r:.80} is not supported")


def _directive(value: Any) -> str:
    """Returns a field that is a directive of a strategic merge patch (``$patch``), or ""."""
    if isinstance(value, dict):
        own = (key for key in value if key.startswith("$"))
        return next(own, "") or next(filter(None, map(_directive, value.values())), "")
    return next(filter(None, map(_directive, value)), "") if isinstance(value, list) else ""


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
