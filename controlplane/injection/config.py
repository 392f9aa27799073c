"""The injection configuration: the key `config` of the ConfigMap `outrigger-sidecar-injector`."""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from controlplane.errors import InjectionError, SettingsError
from controlplane.injection.label_selector import LabelSelector
from controlplane.injection.pod import JsonObject
from controlplane.injection.pod_shape import check_partial
from controlplane.injection.traffic import IpRanges, Ports
from controlplane.model.proxy_config import HostAndPort
from controlplane.resources.base import (
    AtLeastOne,
    Bool,
    Message,
    NonEmptyStr,
    NonNegativeInt,
    Str,
    invalid,
)
from controlplane.resources.error_messages import explain
from controlplane.yaml_documents import YamlError, read_documents

SIDECAR_TEMPLATE: Final = "sidecar"
GATEWAY_TEMPLATE: Final = "gateway"


class Policy(StrEnum):
    """Whether pods are injected for which neither a label nor a selector decides."""

    ENABLED = "enabled"
    DISABLED = "disabled"


class DataPlane(StrEnum):
    """The program that carries the traffic of a pod."""

    OUTRIGGER = "outrigger"
    ENVOY = "envoy"


class Native(StrEnum):
    """Whether the proxy is a native sidecar: an init container with ``restartPolicy: Always``. AUTO: where
    the kubelet of every node is new enough."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class PullPolicy(StrEnum):
    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


_REQUESTS: Final[JsonObject] = {"requests": {"cpu": "100m", "memory": "128Mi"}}
_LIMITS: Final[JsonObject] = {"limits": {"cpu": "2000m", "memory": "1024Mi"}}


class Probe(Message):
    """The numbers of a probe of the proxy."""

    initial_delay_seconds: NonNegativeInt = 0
    period_seconds: Annotated[NonNegativeInt, Field(ge=1)]
    failure_threshold: Annotated[NonNegativeInt, Field(ge=1)]


class ProxyValues(Message):
    """The proxy's container, and what it intercepts unless a pod's annotations say otherwise. ``image`` with
    a slash is a whole image name."""

    image: NonEmptyStr = "sidecar"
    log_level: NonEmptyStr = "info"
    resources: dict[Str, Any] | None = Field(default_factory=lambda: {**_REQUESTS, **_LIMITS})
    lifecycle: dict[Str, Any] | None = None
    privileged: Bool = False
    startup_probe: Probe = Probe(period_seconds=1, failure_threshold=600)
    readiness_probe: Probe = Probe(period_seconds=15, failure_threshold=4)
    include_outbound_ip_ranges: Annotated[IpRanges, Field(alias="includeOutboundIPRanges")] = "*"
    exclude_outbound_ip_ranges: Annotated[IpRanges, Field(alias="excludeOutboundIPRanges")] = ""
    include_inbound_ports: Ports = "*"
    exclude_inbound_ports: Ports = ""
    include_outbound_ports: Ports = ""
    exclude_outbound_ports: Ports = ""


class InitValues(Message):
    """The init container that sets the interception rules. ``cni``: a network plug-in sets them instead, and
    the init container only validates them."""

    image: NonEmptyStr = "sidecar"
    cni: Bool = False
    resources: dict[Str, Any] | None = Field(
        default_factory=lambda: {"requests": {"cpu": "10m", "memory": "40Mi"}, **_LIMITS}
    )


class EnvoyValues(Message):
    """The container of a stock Envoy, and its agent."""

    image: NonEmptyStr = "envoyproxy/envoy:distroless-v1.36-latest"
    concurrency: NonNegativeInt = 2
    resources: dict[Str, Any] | None = Field(default_factory=lambda: {**_REQUESTS, **_LIMITS})


class Values(Message):
    """The values that the built-in templates use. ``tag``: by default, the version of this package."""

    hub: NonEmptyStr = "docker.io/outrigger"
    tag: Str = Field(default_factory=lambda: version("outrigger"))
    image_type: Str = ""
    image_pull_policy: PullPolicy | None = None
    image_pull_secrets: tuple[NonEmptyStr, ...] = ()
    cluster_name: NonEmptyStr = "Kubernetes"
    system_namespace: NonEmptyStr = "outrigger-system"
    control_plane_address: HostAndPort | None = None
    data_plane: DataPlane = DataPlane.OUTRIGGER
    native_sidecars: Native = Native.AUTO
    rewrite_app_http_probe: Bool = True
    token_expiration_seconds: Annotated[NonNegativeInt, Field(ge=600)] = 12 * 3600
    proxy: ProxyValues = ProxyValues()
    init: InitValues = InitValues()
    envoy: EnvoyValues = EnvoyValues()

    def address(self, revision: str) -> str:
        """The address of the control plane's port for xDS and certificates, HOST:PORT."""
        suffix = "" if revision in ("", "default") else f"-{revision}"
        return self.control_plane_address or (
            f"outrigger-controlplane{suffix}.{self.system_namespace}.svc:15012"
        )


class InjectionConfig(Message):
    """The injection configuration. A custom template is a partial pod."""

    policy: Policy = Policy.ENABLED
    never_inject_selector: tuple[LabelSelector, ...] = ()
    always_inject_selector: tuple[LabelSelector, ...] = ()
    injected_annotations: dict[Str, Str] = Field(default_factory=dict)
    default_templates: Annotated[tuple[NonEmptyStr, ...], AtLeastOne] = (SIDECAR_TEMPLATE,)
    templates: dict[NonEmptyStr, JsonObject] = Field(default_factory=dict)
    aliases: dict[NonEmptyStr, Annotated[tuple[NonEmptyStr, ...], AtLeastOne]] = Field(default_factory=dict)
    values: Values = Values()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses YAML. Raises `SettingsError` that names the field."""
        try:
            documents = list(read_documents(text))
        except YamlError as error:
            raise SettingsError(f"injection configuration: {error}") from error
        if len(documents) > 1:
            raise SettingsError("injection configuration: expected one YAML document")
        try:
            return cls.model_validate(documents[0].value if documents else {})
        except ValidationError as error:
            raise SettingsError(
                "; ".join(map(str, explain(error, cls, "injection configuration")))
            ) from error

    @field_validator("templates", mode="before")
    @classmethod
    def _read_text(cls, templates: object) -> object:
        """A template can also be a text, as in Istio's configuration."""
        if not isinstance(templates, dict):
            return templates
        return {
            name: _parsed(name, value) if isinstance(value, str) else value
            for name, value in templates.items()
        }

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: dict[str, JsonObject]) -> dict[str, JsonObject]:
        for name, template in templates.items():
            if name in (SIDECAR_TEMPLATE, GATEWAY_TEMPLATE):
                raise invalid(f"{name!r} is the name of a built-in template")
            try:
                check_partial(template)
            except InjectionError as error:
                raise invalid(f"{name}: {error}") from error
        return {
            name: {**template, "spec": template.get("spec") or {}} for name, template in templates.items()
        }

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        known = {SIDECAR_TEMPLATE, GATEWAY_TEMPLATE, *self.templates}
        for name in (*self.default_templates, *(name for names in self.aliases.values() for name in names)):
            if name not in known and not (name in self.aliases and name in self.default_templates):
                raise invalid(f"unknown template {name!r:.80}: expected one of {', '.join(sorted(known))}")
        return self


def _parsed(name: str, text: str) -> object:
    try:
        documents = list(read_documents(text))
    except YamlError as error:
        raise invalid(f"{name}: {error}") from error
    return documents[0].value if len(documents) == 1 else None
