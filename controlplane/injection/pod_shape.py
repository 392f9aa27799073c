"""Checks the parts of a pod that the injector reads. A pod from the API server is valid, but a file can
contain anything."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.errors import InjectionError
from controlplane.resources.base import NonEmptyStr, Str
from controlplane.resources.error_messages import explain


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
    security_context: Annotated[_SecurityContext | None, Field(alias="securityContext")] = None


class _Pod(_Part):
    metadata: _Metadata | None = None
    spec: _Spec


class _PartialSpec(_Spec):
    containers: list[_Container] | None = None  # type: ignore[assignment]
    image_pull_secrets: Annotated[list[_Named] | None, Field(alias="imagePullSecrets")] = None  # type: ignore[assignment]


class _PartialPod(_Part):
    model_config = ConfigDict(extra="forbid")

    api_version: Annotated[Str | None, Field(alias="apiVersion")] = None
    kind: Str | None = None
    metadata: _Metadata | None = None
    spec: _PartialSpec | None = None


def check(pod: object) -> None:
    """Checks a pod. Raises `InjectionError` that names the field."""
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
