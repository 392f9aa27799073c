"""The settings of one pod's proxy: its annotations, over the injection configuration and the mesh
configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from controlplane.errors import InjectionError
from controlplane.injection import traffic
from controlplane.injection.annotation_reader import (
    AnnotationReader,
    boolean,
    json_value,
    number,
    port_or_zero,
    positive_number,
    yaml_mapping,
)
from controlplane.injection.config import DataPlane, Native, Probe, Values
from controlplane.injection.names import DNS_PORT, METRICS_PORT, READINESS_PORT
from controlplane.injection.pod import JsonObject, annotations_of, app_containers, labels_of
from controlplane.injection.resources import proxy_resources
from controlplane.model.proxy import InterceptionMode
from controlplane.model.proxy_config import ProxyConfig, without_ignored
from controlplane.resources.base import invalid
from controlplane.resources.error_messages import explain

if TYPE_CHECKING:
    from controlplane.injection.injector import InjectionRequest

DATA_PLANE: Final = "outrigger.dev/proxy"
_ISTIO_PROMETHEUS_PORT: Final = 15090
_LOG_LEVELS: Final = ("trace", "debug", "info", "warning", "warn", "error", "critical", "off")
_DEFAULT_DRAIN_TIME_S: Final = 45


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic that is intercepted. Lists are separated by commas; "*" is all and "" is none."""

    include_outbound_ranges: str
    exclude_outbound_ranges: str
    include_outbound_ports: str
    exclude_outbound_ports: str
    include_inbound_ports: str
    exclude_inbound_ports: str
    exclude_interfaces: str
    reroute_virtual_interfaces: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """The settings of one pod's proxy. ``metrics_port`` 0: it serves neither metrics nor probes."""

    data_plane: DataPlane
    native: bool
    interception: InterceptionMode
    traffic: Traffic
    metrics_port: int
    readiness: Probe
    resources: JsonObject
    image: str
    image_type: str
    log_level: str
    agent_log_level: str
    bind_low_ports: bool
    rewrite_probes: bool
    merge_prometheus: bool
    proxy_config: ProxyConfig
    bootstrap_override: JsonObject
    user_volumes: tuple[JsonObject, ...]
    user_volume_mounts: tuple[JsonObject, ...]
    templates: tuple[str, ...]

    @property
    def hold_application(self) -> bool:
        return bool(self.proxy_config.hold_application_until_proxy_starts)

    @property
    def capture_dns(self) -> bool:
        return self.proxy_config.captures_dns and self.interception is not InterceptionMode.NONE

    @property
    def drain_time_s(self) -> int:
        drain_time = self.proxy_config.drain_time
        return _DEFAULT_DRAIN_TIME_S if drain_time is None else round(drain_time.total_seconds())

    @property
    def excluded_inbound_ports(self) -> str:
        """The ports of the pod's annotations, and those of the proxy itself."""
        own = [self.metrics_port or METRICS_PORT, READINESS_PORT, _ISTIO_PROMETHEUS_PORT]
        own += [DNS_PORT] if self.capture_dns else []
        others = [port for port in self.traffic.exclude_inbound_ports.split(",") if port]
        return ",".join(dict.fromkeys([*map(str, own), *others]))


def pod_settings(pod: JsonObject, request: InjectionRequest) -> tuple[PodSettings, list[str]]:
    """Returns the settings, and warnings. Raises `InjectionError` for an invalid annotation."""
    reader = AnnotationReader(annotations_of(pod))
    values = request.config.values
    warnings: list[str] = []
    mesh_default = request.mesh_config.default_config
    none: tuple[ProxyConfig, list[str]] = (ProxyConfig(), [])
    own_config, ignored = reader.get("proxy.istio.io/config", _proxy_config, none)
    warnings += [f"proxy.istio.io/config: the field {name} is not supported and ignored" for name in ignored]
    proxy_config = own_config.over(mesh_default)
    data_plane = _data_plane(reader, pod, request)
    envoy = data_plane is DataPlane.ENVOY
    settings = PodSettings(
        data_plane=data_plane,
        # A pod must have an ordinary container.
        native=reader.get("sidecar.istio.io/nativeSidecar", boolean, _native(values, request))
        and bool(app_containers(pod)),
        interception=reader.get(
            "sidecar.istio.io/interceptionMode",
            _interception,
            proxy_config.interception_mode or InterceptionMode.REDIRECT,
        ),
        traffic=_traffic(reader, values),
        metrics_port=reader.get(
            "status.sidecar.istio.io/port", port_or_zero, _or(proxy_config.status_port, METRICS_PORT)
        ),
        readiness=_readiness(reader, values.proxy.readiness_probe),
        resources=proxy_resources(reader, values.envoy.resources if envoy else values.proxy.resources),
        image=reader.get(
            "sidecar.istio.io/proxyImage", _not_empty, values.envoy.image if envoy else values.proxy.image
        ),
        image_type=reader.get(
            "sidecar.istio.io/proxyImageType", str, proxy_config.image.image_type or values.image_type
        ),
        log_level=reader.get("sidecar.istio.io/logLevel", _log_level, values.proxy.log_level),
        agent_log_level=reader.get("sidecar.istio.io/agentLogLevel", _agent_log_level, "info"),
        bind_low_ports=reader.get("sidecar.istio.io/capNetBindService", boolean, False),
        rewrite_probes=reader.get(
            "sidecar.istio.io/rewriteAppHTTPProbers",
            lambda text: _boolean_or(text, values.rewrite_app_http_probe),
            values.rewrite_app_http_probe,
        ),
        merge_prometheus=reader.get(
            "prometheus.istio.io/merge-metrics", boolean, request.mesh_config.enable_prometheus_merge
        ),
        proxy_config=proxy_config,
        bootstrap_override=reader.get("sidecar.istio.io/bootstrapOverride", yaml_mapping, {}),
        user_volumes=reader.get("sidecar.istio.io/userVolume", _named_objects, ()),
        user_volume_mounts=reader.get("sidecar.istio.io/userVolumeMount", _mounts, ()),
        templates=reader.get("inject.istio.io/templates", _names, request.config.default_templates),
    )
    if envoy and not settings.native:
        raise InjectionError(
            f"{DATA_PLANE}: envoy: needs a native sidecar (Kubernetes 1.33 or newer on all nodes): "
            f"Envoy must start after its certificate is there, and end after the application"
        )
    return settings, [*warnings, *reader.unknown(), *_without_effect(settings)]


def _without_effect(settings: PodSettings) -> list[str]:
    concurrency = settings.proxy_config.concurrency
    if settings.data_plane is DataPlane.OUTRIGGER and concurrency not in (None, 1):
        return [f"concurrency {concurrency} is ignored: the sidecar has one worker"]
    return []


def _data_plane(reader: AnnotationReader, pod: JsonObject, request: InjectionRequest) -> DataPlane:
    """The annotation of the pod, then its label, the label of the namespace, and its annotation."""
    default = request.config.values.data_plane
    for given in (request.namespace_annotations, request.namespace_labels, labels_of(pod)):
        default = AnnotationReader(given).get(DATA_PLANE, _data_plane_named, default)
    return reader.get(DATA_PLANE, _data_plane_named, default)


def _native(values: Values, request: InjectionRequest) -> bool:
    if values.native_sidecars is Native.AUTO:
        return request.native_sidecars
    return values.native_sidecars is Native.ALWAYS


def _traffic(reader: AnnotationReader, values: Values) -> Traffic:
    proxy = values.proxy

    def get(name: str, parse: Callable[[str], str], default: str) -> str:
        return reader.get(f"traffic.sidecar.istio.io/{name}", parse, default)

    older_name = get("kubevirtInterfaces", traffic.interfaces, "")
    return Traffic(
        include_outbound_ranges=get(
            "includeOutboundIPRanges", traffic.ip_ranges, proxy.include_outbound_ip_ranges
        ),
        exclude_outbound_ranges=get(
            "excludeOutboundIPRanges", traffic.cidrs, proxy.exclude_outbound_ip_ranges
        ),
        include_outbound_ports=get("includeOutboundPorts", traffic.ports, proxy.include_outbound_ports),
        exclude_outbound_ports=get(
            "excludeOutboundPorts", traffic.port_numbers, proxy.exclude_outbound_ports
        ),
        include_inbound_ports=get("includeInboundPorts", traffic.ports, proxy.include_inbound_ports),
        exclude_inbound_ports=get("excludeInboundPorts", traffic.port_numbers, proxy.exclude_inbound_ports),
        exclude_interfaces=get("excludeInterfaces", traffic.interfaces, ""),
        reroute_virtual_interfaces=reader.get(
            "istio.io/reroute-virtual-interfaces", traffic.interfaces, older_name
        ),
    )


def _readiness(reader: AnnotationReader, defaults: Probe) -> Probe:
    prefix = "readiness.status.sidecar.istio.io"
    return Probe(
        initial_delay_seconds=reader.get(
            f"{prefix}/initialDelaySeconds", number, defaults.initial_delay_seconds
        ),
        period_seconds=reader.get(f"{prefix}/periodSeconds", positive_number, defaults.period_seconds),
        failure_threshold=reader.get(
            f"{prefix}/failureThreshold", positive_number, defaults.failure_threshold
        ),
    )


def _proxy_config(text: str) -> tuple[ProxyConfig, list[str]]:
    fields, ignored = without_ignored(yaml_mapping(text))
    try:
        return ProxyConfig.model_validate(fields), ignored
    except ValidationError as error:
        raise invalid("; ".join(map(str, explain(error, ProxyConfig, "config")))) from error


def _data_plane_named(text: str) -> DataPlane:
    try:
        return DataPlane(text)
    except ValueError:
        raise invalid(f"should be one of {', '.join(DataPlane)}") from None


def _interception(text: str) -> InterceptionMode:
    try:
        return InterceptionMode(text)
    except ValueError:
        raise invalid(f"should be one of {', '.join(mode.value for mode in InterceptionMode)}") from None


def _log_level(text: str) -> str:
    if text not in _LOG_LEVELS:
        raise invalid(f"should be one of {', '.join(_LOG_LEVELS)}")
    return text


def _agent_log_level(text: str) -> str:
    """Istio's agents have scopes (``default:debug``); ours has one."""
    return _log_level(text.removeprefix("default:"))


def _boolean_or(text: str, default: bool) -> bool:
    """An invalid value means the default, as in Istio."""
    try:
        return boolean(text)
    except ValueError:
        return default


def _not_empty(text: str) -> str:
    if not text.strip():
        raise invalid("should not be empty")
    return text.strip()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _named_objects(text: str) -> tuple[JsonObject, ...]:
    """Parses a list of objects with names, or Istio's other form: objects by name."""
    value = json_value(text)
    if isinstance(value, Mapping) and all(isinstance(item, dict) for item in value.values()):
        value = [{"name": name, **item} for name, item in value.items()]
    if not isinstance(value, list) or not all(_is_named(item) for item in value):
        raise invalid("should be a JSON list of objects with a name, or an object with names as keys")
    return tuple(value)


def _mounts(text: str) -> tuple[JsonObject, ...]:
    mounts = _named_objects(text)
    if not all(isinstance(mount.get("mountPath"), str) for mount in mounts):
        raise invalid("each mount should have a mountPath")
    return mounts


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str) and bool(item["name"])


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
