"""The endpoints of a cluster. Source: ``envoy.config.endpoint.v3.ClusterLoadAssignment``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An IP address (or, in strict DNS clusters, a name) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UpstreamSource:
    """How connections to hosts tell their client. With an ``address``
    (``envoy.filters.listener.original_src``) they come from it, which no interface of this machine has; port
    0 means any port, and ``mark`` is a packet mark (SO_MARK), 0 none. A ``proxy_header`` (the PROXY protocol)
    is sent first, before TLS."""

    address: SocketAddress | None
    mark: int = 0
    proxy_header: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Locality:
    region: str = ""
    zone: str = ""
    sub_zone: str = ""


class HealthStatus(Enum):
    """``envoy.config.core.v3.HealthStatus``; UNKNOWN counts as healthy."""

    UNKNOWN = 0
    HEALTHY = 1
    UNHEALTHY = 2
    DRAINING = 3
    TIMEOUT = 4
    DEGRADED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadMetadata:
    """The metadata ``istio: {workload: "name;namespace;canonical name;canonical revision;cluster"}`` of an
    endpoint, or of a listener (the workload of the sidecar itself). ``key`` is the same text with all five
    parts; a string caches its hash."""

    name: str = ""
    namespace: str = ""
    canonical_name: str = ""
    canonical_revision: str = ""
    cluster: str = ""
    key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (self.name, self.namespace, self.canonical_name, self.canonical_revision, self.cluster)
        object.__setattr__(self, "key", ";".join(parts))

    @classmethod
    def parse(cls, text: str) -> WorkloadMetadata:
        """Missing parts are empty."""
        name, namespace, canonical_name, revision, cluster = (*text.split(";"), "", "", "", "", "")[:5]
        return cls(
            name=name,
            namespace=namespace,
            canonical_name=canonical_name,
            canonical_revision=revision,
            cluster=cluster,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One ``LbEndpoint``. ``tls_match`` is its metadata under ``envoy.transport_socket_match``,
    ``subset_labels`` its metadata under ``envoy.lb``."""

    address: SocketAddress
    hostname: str = ""
    weight: int = 1
    health: HealthStatus = HealthStatus.UNKNOWN
    locality: Locality = Locality()
    priority: int = 0
    tls_match: Mapping[str, str] = field(default_factory=dict)
    subset_labels: Mapping[str, str] = field(default_factory=dict)
    workload: WorkloadMetadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalityWeight:
    """``LocalityLbEndpoints.load_balancing_weight``: relative to other localities of the same priority."""

    locality: Locality
    priority: int = 0
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAssignment:
    """All endpoints of one cluster (or of its ``eds_cluster_config.service_name``). ``locality_weights`` has
    an entry for each locality of a priority that has a weight."""

    cluster_name: str
    endpoints: tuple[Endpoint, ...] = ()
    locality_weights: tuple[LocalityWeight, ...] = ()
    overprovisioning_factor: int = 140  # percent
