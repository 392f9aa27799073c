"""The settings of one pod's proxy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.injection.config import DataPlane, Probe
from controlplane.injection.names import DNS_PORT, METRICS_PORT, READINESS_PORT
from controlplane.injection.pod import JsonObject
from controlplane.model.proxy import InterceptionMode
from controlplane.model.proxy_config import ProxyConfig

_ISTIO_PROMETHEUS_PORT: Final = 15090
_DEFAULT_DRAIN_TIME_S: Final = 45
_DEFAULT_ADMIN_PORT: Final = 15000


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The traffic that is intercepted. Lists are separated by commas; "*" means all, and "" means none."""

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
        """Only our own sidecar has a resolver."""
        return (
            self.proxy_config.captures_dns
            and self.data_plane is DataPlane.OUTRIGGER
            and self.interception is not InterceptionMode.NONE
        )

    @property
    def admin_port(self) -> int:
        return self.proxy_config.proxy_admin_port or _DEFAULT_ADMIN_PORT

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
