"""Reads the settings of one pod's proxy: its annotations, over the injection configuration and the mesh
configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from controlplane.errors import InjectionError
from controlplane.injection import annotation_values as parse
from controlplane.injection import traffic
from controlplane.injection.annotation_reader import AnnotationReader
from controlplane.injection.config import DataPlane, Native, Probe, ProxyValues
from controlplane.injection.names import DNS_PORT, METRICS_PORT, READINESS_PORT
from controlplane.injection.pod import JsonObject, annotations_of, app_containers, items, labels_of
from controlplane.injection.request import InjectionRequest
from controlplane.injection.resources import proxy_resources
from controlplane.injection.settings import PodSettings, Traffic
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode
from controlplane.model.proxy_config import ProxyConfig

DATA_PLANE: Final = "outrigger.dev/proxy"
PROXY_CONFIG: Final = "proxy.istio.io/config"
_SIDECAR: Final = "sidecar.istio.io"
_INBOUND_PORTS: Final = f"traffic.{_SIDECAR}/includeInboundPorts"
_STATUS_PORT: Final = f"status.{_SIDECAR}/port"


def pod_settings(pod: JsonObject, request: InjectionRequest) -> tuple[PodSettings, list[str]]:
    """Returns the settings, and warnings. Raises `InjectionError` for an invalid annotation."""
    reader = AnnotationReader(annotations_of(pod))
    not_set: tuple[ProxyConfig, list[str]] = (ProxyConfig(), [])
    own_config, ignored = reader.get(PROXY_CONFIG, parse.proxy_config, not_set)
    settings = _read(reader, pod, request, own_config.over(request.mesh_config.default_config))
    if settings.data_plane is DataPlane.ENVOY and not settings.native:
        raise InjectionError(
            f"{DATA_PLANE}: envoy: needs a native sidecar (Kubernetes 1.33 or newer on all nodes): "
            f"Envoy must start after its certificate is there, and end after the application"
        )
    _check_ports(settings, request.mesh_config, app_containers(pod))
    warnings = [f"{PROXY_CONFIG}: the field {field} is not supported and ignored" for field in ignored]
    return settings, [*warnings, *reader.unknown(), *_without_effect(settings)]


def _read(
    reader: AnnotationReader, pod: JsonObject, request: InjectionRequest, proxy_config: ProxyConfig
) -> PodSettings:
    get, values = reader.get, request.config.values
    data_plane = _data_plane(reader, pod, request)
    # The container of the proxy: its defaults depend on the program.
    container = values.envoy if data_plane is DataPlane.ENVOY else values.proxy
    rewrites = values.rewrite_app_http_probe
    mode = proxy_config.interception_mode or InterceptionMode.REDIRECT
    port = METRICS_PORT if proxy_config.status_port is None else proxy_config.status_port
    image_type = proxy_config.image.image_type or values.image_type
    merges = request.mesh_config.enable_prometheus_merge
    return PodSettings(
        data_plane=data_plane,
        native=_native(reader, pod, request),
        interception=get(f"{_SIDECAR}/interceptionMode", parse.interception, mode),
        traffic=_traffic(reader, values.proxy),
        metrics_port=get(_STATUS_PORT, parse.port_or_zero, port),
        readiness=_readiness(reader, values.proxy.readiness_probe),
        resources=proxy_resources(reader, container.resources),
        image=get(f"{_SIDECAR}/proxyImage", parse.not_empty, container.image),
        image_type=get(f"{_SIDECAR}/proxyImageType", str, image_type),
        log_level=get(f"{_SIDECAR}/logLevel", parse.log_level, values.proxy.log_level),
        agent_log_level=get(f"{_SIDECAR}/agentLogLevel", parse.agent_log_level, "info"),
        bind_low_ports=get(f"{_SIDECAR}/capNetBindService", parse.boolean, False),
        rewrite_probes=get(
            f"{_SIDECAR}/rewriteAppHTTPProbers", lambda text: parse.boolean_or(text, rewrites), rewrites
        ),
        merge_prometheus=get("prometheus.istio.io/merge-metrics", parse.boolean, merges),
        proxy_config=proxy_config,
        bootstrap_override=get(f"{_SIDECAR}/bootstrapOverride", parse.bootstrap_override, {}),
        user_volumes=get(f"{_SIDECAR}/userVolume", parse.named_objects, ()),
        user_volume_mounts=get(f"{_SIDECAR}/userVolumeMount", parse.mounts, ()),
        templates=get("inject.istio.io/templates", parse.names, request.config.default_templates),
    )


def _data_plane(reader: AnnotationReader, pod: JsonObject, request: InjectionRequest) -> DataPlane:
    """The annotation of the pod, then its label, the label of the namespace, and its annotation."""
    default = request.config.values.data_plane
    for given in (request.namespace_annotations, request.namespace_labels, labels_of(pod)):
        default = AnnotationReader(given).get(DATA_PLANE, parse.data_plane, default)
    return reader.get(DATA_PLANE, parse.data_plane, default)


def _native(reader: AnnotationReader, pod: JsonObject, request: InjectionRequest) -> bool:
    """A pod without an application must have the proxy as an ordinary container: it needs one."""
    configured = request.config.values.native_sidecars
    default = request.native_sidecars if configured is Native.AUTO else configured is Native.ALWAYS
    asked = reader.get(f"{_SIDECAR}/nativeSidecar", parse.boolean, default)
    return asked and bool(app_containers(pod))


def _traffic(reader: AnnotationReader, default: ProxyValues) -> Traffic:
    def get(name: str, check: Callable[[str], str], value: str) -> str:
        return reader.get(f"traffic.{_SIDECAR}/{name}", check, value)

    older_name = get("kubevirtInterfaces", traffic.interfaces, "")
    return Traffic(
        include_outbound_ranges=get(
            "includeOutboundIPRanges", traffic.ip_ranges, default.include_outbound_ip_ranges
        ),
        exclude_outbound_ranges=get(
            "excludeOutboundIPRanges", traffic.cidrs, default.exclude_outbound_ip_ranges
        ),
        include_outbound_ports=get("includeOutboundPorts", traffic.ports, default.include_outbound_ports),
        exclude_outbound_ports=get(
            "excludeOutboundPorts", traffic.port_numbers, default.exclude_outbound_ports
        ),
        include_inbound_ports=get("includeInboundPorts", traffic.ports, default.include_inbound_ports),
        exclude_inbound_ports=get("excludeInboundPorts", traffic.port_numbers, default.exclude_inbound_ports),
        exclude_interfaces=get("excludeInterfaces", traffic.interfaces, ""),
        reroute_virtual_interfaces=reader.get(
            "istio.io/reroute-virtual-interfaces", traffic.interfaces, older_name
        ),
    )


def _readiness(reader: AnnotationReader, default: Probe) -> Probe:
    def get(name: str, check: Callable[[str], int], value: int) -> int:
        return reader.get(f"readiness.status.{_SIDECAR}/{name}", check, value)

    return Probe(
        initial_delay_seconds=get("initialDelaySeconds", parse.number, default.initial_delay_seconds),
        period_seconds=get("periodSeconds", parse.positive_number, default.period_seconds),
        failure_threshold=get("failureThreshold", parse.positive_number, default.failure_threshold),
    )


def _check_ports(settings: PodSettings, mesh: MeshConfig, apps: list[JsonObject]) -> None:
    """Two cannot listen on one port, and a port of the proxy is excluded from interception."""
    own = {mesh.outbound_port, mesh.inbound_port, READINESS_PORT, DNS_PORT}
    for name, port in (
        (f"annotation {_STATUS_PORT}, or statusPort of {PROXY_CONFIG}", settings.metrics_port),
        (f"annotation {PROXY_CONFIG}: proxyAdminPort", settings.admin_port),
    ):
        if port in own:
            raise InjectionError(f"{name}: {port} is another port of the proxy")
        own |= {port} - {0}
    for included in settings.traffic.include_inbound_ports.split(","):
        if included.isdecimal() and int(included) in own:
            raise InjectionError(f"annotation {_INBOUND_PORTS}: {included} is a port of the proxy")
    for container in apps:
        for declared in items(container, "ports"):
            port = declared["containerPort"]
            if port in own and (declared.get("protocol") or "TCP") == "TCP":
                raise InjectionError(f"container {container['name']}: its port {port} is a port of the proxy")


def _without_effect(settings: PodSettings) -> list[str]:
    found = []
    if settings.proxy_config.captures_dns and not settings.capture_dns:
        found.append("DNS is not captured: that needs our own sidecar, and interception")
    return found
