"""The settings of one proxy: Istio's ProxyConfig, in the mesh configuration (``defaultConfig``) and in the
annotation ``proxy.istio.io/config`` of a pod.

https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#ProxyConfig
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field

from controlplane.model.proxy import InterceptionMode
from controlplane.resources.base import Bool, Duration, Message, NonNegativeInt, PortNumber, Str, invalid

# Fields of Istio that are not supported. They only cause a warning, because they do not change who may send
# which request.
IGNORED: Final = frozenset({
    "availabilityZone", "binaryPath", "caCertificatesPem", "configPath", "controlPlaneAuthPolicy",
    "customConfigFile", "envoyAccessLogService", "envoyMetricsService", "envoyMetricsServiceAddress",
    "extraStatTags", "fileFlushInterval", "fileFlushMinSizeKb", "gatewayTopology", "meshId",
    "privateKeyProvider", "proxyBootstrapTemplatePath", "proxyHeaders", "proxyStatsMatcher",
    "readinessProbe", "runtimeValues", "sds", "serviceCluster", "statNameLength", "statsdUdpAddress",
    "tracing", "tracingServiceName", "zipkinAddress",
})  # fmt: skip

# Istio's switch for DNS capture, in ``proxyMetadata``.
_DNS_CAPTURE: Final = "ISTIO_META_DNS_CAPTURE"


def _check_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise invalid(
            f"{value!r:.80} is not an address such as outrigger-controlplane.outrigger-system.svc:15012"
        )
    return value


HostAndPort = Annotated[Str, AfterValidator(_check_address)]


# More than any machine has cores; the sidecar refuses more.
MOST_WORKERS: Final = 256


class ProxyImage(Message):
    """``ProxyImage``: a suffix of the image's tag, such as ``distroless``."""

    image_type: Str = ""


class ProxyConfig(Message):
    """A field that is None or empty is not set. `over` fills it with the value of the mesh."""

    concurrency: Annotated[NonNegativeInt, Field(le=MOST_WORKERS)] | None = None
    discovery_address: HostAndPort | None = None
    drain_duration: Duration | None = None
    hold_application_until_proxy_starts: Bool | None = None
    image: ProxyImage = ProxyImage()
    interception_mode: InterceptionMode | None = None
    proxy_admin_port: PortNumber | None = None
    proxy_metadata: dict[Str, Str] = Field(default_factory=dict)
    status_port: Annotated[NonNegativeInt, Field(le=65535)] | None = None
    termination_drain_duration: Duration | None = None

    def over(self, defaults: Self) -> Self:
        """Returns this configuration, with the fields that it does not set from ``defaults``. Metadata are
        merged by name."""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        fields["proxy_metadata"] = {**defaults.proxy_metadata, **self.proxy_metadata}
        return defaults.model_copy(update=fields)

    @property
    def drain_time(self) -> timedelta | None:
        """The longest time for which a proxy drains after SIGTERM. Istio's proxies wait for the whole
        ``terminationDrainDuration``; ours end when the last connection does."""
        return self.termination_drain_duration or self.drain_duration

    @property
    def captures_dns(self) -> bool:
        return self.proxy_metadata.get(_DNS_CAPTURE, "").lower() == "true"


def without_ignored(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Returns the fields of a ProxyConfig that are not `IGNORED`, and the names of the others."""
    supported = {name: value for name, value in document.items() if name not in IGNORED}
    return supported, sorted(IGNORED & document.keys())
