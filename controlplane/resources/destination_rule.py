"""``networking.istio.io`` ``DestinationRule``: the traffic policies and the subsets of a host."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from controlplane.resources.base import (
    Bool,
    Duration,
    DurationOrZero,
    ExportTo,
    Host,
    Message,
    NonEmptyStr,
    NonNegativeInt,
    NotSupportedYet,
    Percent,
    PortSelector,
    Str,
    Uint32,
    WildcardHost,
    invalid,
)
from controlplane.resources.deprecation import Deprecated


class SimpleLB(StrEnum):
    UNSPECIFIED = "UNSPECIFIED"
    LEAST_CONN = "LEAST_CONN"  # the old name of LEAST_REQUEST
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"


class LoadBalancerSettings(Message):
    """``LoadBalancerSettings``: how the endpoint of a request is chosen."""

    simple: SimpleLB | None = None
    consistent_hash: NotSupportedYet = None
    locality_lb_setting: NotSupportedYet = None
    warmup: NotSupportedYet = None
    warmup_duration_secs: NotSupportedYet = None


class TcpKeepalive(Message):
    """``ConnectionPoolSettings.TCPSettings.TcpKeepalive``; missing values are those of the operating
    system."""

    probes: Uint32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TCPSettings(Message):
    """``ConnectionPoolSettings.TCPSettings``. ``max_connections`` 0 means Envoy's default."""

    max_connections: NonNegativeInt = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    idle_timeout: DurationOrZero | None = None
    max_connection_duration: Duration | None = None


class H2UpgradePolicy(StrEnum):
    """``H2UpgradePolicy``. DEFAULT is the mesh configuration's."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class HTTPSettings(Message):
    """``ConnectionPoolSettings.HTTPSettings``. Numbers of 0 mean Envoy's defaults. ``use_client_protocol``:
    requests are sent in the HTTP version of their client, which takes precedence over the upgrade."""

    http1_max_pending_requests: Annotated[NonNegativeInt, Field(alias="http1MaxPendingRequests")] = 0
    http2_max_requests: Annotated[NonNegativeInt, Field(alias="http2MaxRequests")] = 0
    max_requests_per_connection: NonNegativeInt = 0
    max_retries: NonNegativeInt = 0
    idle_timeout: DurationOrZero | None = None
    h2_upgrade_policy: Annotated[H2UpgradePolicy, Field(alias="h2UpgradePolicy")] = H2UpgradePolicy.DEFAULT
    use_client_protocol: Bool = False
    max_concurrent_streams: NonNegativeInt = 0


class ConnectionPoolSettings(Message):
    """``ConnectionPoolSettings``: limits for all connections of one proxy to the host."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Message):
    """``OutlierDetection``. A threshold of 0 disables its kind of detection; None is Istio's default."""

    consecutive_5xx_errors: Annotated[Uint32 | None, Field(alias="consecutive5xxErrors")] = None
    consecutive_gateway_errors: Uint32 | None = None
    split_external_local_origin_errors: Bool = False
    consecutive_local_origin_failures: Uint32 | None = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Percent = 0
    min_health_percent: Percent = 0
    consecutive_errors: Annotated[
        NonNegativeInt, Deprecated("is the old name of `consecutive5xxErrors`, and means the same")
    ] = 0

    @property
    def errors_in_a_row(self) -> int | None:
        """``consecutive5xxErrors``, or its old name, in which 0 (protobuf's default) counts as missing."""
        if self.consecutive_5xx_errors is not None:
            return self.consecutive_5xx_errors
        return self.consecutive_errors or None


class TLSMode(StrEnum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class ClientTLSSettings(Message):
    """``ClientTLSSettings``. Certificates are files on the proxy's disk."""

    mode: TLSMode = TLSMode.DISABLE
    client_certificate: Str = ""
    private_key: Str = ""
    ca_certificates: Str = ""
    subject_alt_names: tuple[NonEmptyStr, ...] = ()
    sni: Host | None = None
    insecure_skip_verify: Bool | None = None
    credential_name: NotSupportedYet = None
    ca_crl: NotSupportedYet = None

    @model_validator(mode="after")
    def _certificates_fit_the_mode(self) -> Self:
        own = self.client_certificate or self.private_key
        if self.mode is TLSMode.MUTUAL and not (self.client_certificate and self.private_key):
            raise invalid("the mode MUTUAL needs `clientCertificate` and `privateKey`")
        if self.mode is not TLSMode.MUTUAL and own:
            raise invalid(
                f"`clientCertificate` and `privateKey` are not allowed in the mode {self.mode.value}"
            )
        if self.mode in (TLSMode.DISABLE, TLSMode.ISTIO_MUTUAL) and self.ca_certificates:
            raise invalid(f"`caCertificates` is not allowed in the mode {self.mode.value}")
        if self.insecure_skip_verify and (self.ca_certificates or self.subject_alt_names):
            raise invalid("`insecureSkipVerify` contradicts `caCertificates` and `subjectAltNames`")
        return self


class PolicySettings(Message):
    """The settings of a policy for a host, for a subset, or for one port of either."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class PortTrafficPolicy(PolicySettings):
    """``TrafficPolicy.PortTrafficPolicy``: replaces the policy of the destination for its port. Missing
    fields have Istio's defaults, not the values of the destination."""

    port: PortSelector


class ProxyProtocolVersion(StrEnum):
    V1 = "V1"
    V2 = "V2"


class ProxyProtocol(Message):
    """``TrafficPolicy.ProxyProtocol``: connections to the host begin with a header of this version."""

    version: ProxyProtocolVersion = ProxyProtocolVersion.V1


class TrafficPolicy(PolicySettings):
    """``TrafficPolicy``: applies to all ports of the host, except those with separate settings."""

    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: NotSupportedYet = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: NotSupportedYet = None

    @field_validator("port_level_settings")
    @classmethod
    def _one_policy_a_port(cls, settings: tuple[PortTrafficPolicy, ...]) -> tuple[PortTrafficPolicy, ...]:
        numbers = [policy.port.number for policy in settings]
        for number in numbers:
            if numbers.count(number) > 1:
                raise invalid(f"has a duplicate policy for port {number}")
        return settings


class Subset(Message):
    """``Subset``: the endpoints of the host that have all of ``labels``."""

    name: Annotated[NonEmptyStr, Field(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
    labels: dict[Str, Str] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Message):
    """The traffic policies that apply to ``host`` after routing, and its subsets."""

    host: WildcardHost
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[ExportTo, ...] = ()
    workload_selector: NotSupportedYet = None

    @field_validator("subsets")
    @classmethod
    def _one_subset_a_name(cls, subsets: tuple[Subset, ...]) -> tuple[Subset, ...]:
        names = set()
        for subset in subsets:
            if subset.name in names:
                raise invalid(f"has a duplicate subset name {subset.name!r}")
            names.add(subset.name)
        return subsets
