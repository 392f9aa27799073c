"""Configurations of HTTP filters. Source: the messages of ``envoy.extensions.filters.http``.

The class of a configuration says which filter it is for; the filter's name in `HttpFilter` can be any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from sidecar.config.fraction import ALL, NONE, Fraction
from sidecar.config.route import HeaderMatch, HeaderValue, StringMatch


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """``router.v3.Router``: ends the chain, and has no options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveHeader:
    """``name`` is lower-case."""

    name: bytes


HeaderMutation: TypeAlias = HeaderValue | RemoveHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutations:
    """``header_mutation.v3.Mutations``: applied in order. As an entry of ``per_filter_config``, it is
    ``HeaderMutationPerRoute``."""

    request: tuple[HeaderMutation, ...] = ()
    response: tuple[HeaderMutation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMutationConfig:
    """``header_mutation.v3.HeaderMutation``. ``mutations`` are applied first. Those of the route's levels
    follow: weighted cluster, route, virtual host, or in the opposite order if
    ``most_specific_header_mutations_wins``."""

    mutations: Mutations = Mutations()
    most_specific_header_mutations_wins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckConfig:
    """``health_check.v3.HealthCheck``. A request that matches all ``headers`` is a health check.

    If ``pass_through``, the upstream host answers, and its status is the answer for ``cache_time_s`` (0: no
    cache). Otherwise the filter answers: 200, or 503 if in one of the clusters the share of healthy and
    degraded hosts is below ``cluster_min_healthy_percentages``.
    """

    pass_through: bool
    cache_time_s: float = 0.0
    cluster_min_healthy_percentages: Mapping[str, int] = field(default_factory=dict)
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsConfig:
    """``cors.v3.Cors``: has no options. The policies are those of routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    """``cors.v3.CorsPolicy``. An attribute that is empty or None is that of the next level of the route.
    ``enabled`` and ``shadow_enabled`` (requests are counted only) are those of the most specific level."""

    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: str = ""
    allow_credentials: bool | None = None
    allow_private_network_access: bool | None = None
    forward_not_matching_preflights: bool | None = None
    enabled: Fraction = ALL
    shadow_enabled: Fraction = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultDelay:
    """``FaultDelay``. ``fixed_s`` None: the request has the delay in a header."""

    fixed_s: float | None
    percentage: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultAbort:
    """``FaultAbort``: one of the statuses. If both are None, the request has one in a header."""

    http_status: int | None = None
    grpc_status: int | None = None
    percentage: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRateLimit:
    """``FaultRateLimit``, in KiB/s. ``fixed_kib_per_s`` None: the request has the limit in a header."""

    fixed_kib_per_s: int | None
    percentage: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultConfig:
    """``fault.v3.HTTPFault``, of the filter or of a route, which replaces the filter's. It applies to
    requests that match all ``headers``, go to ``upstream_cluster`` and come from one of ``downstream_nodes``;
    if these are empty, to all."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None
    response_rate_limit: FaultRateLimit | None = None
    upstream_cluster: str = ""
    downstream_nodes: frozenset[bytes] = frozenset()
    headers: tuple[HeaderMatch, ...] = ()
    max_active_faults: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcStatsConfig:
    """``grpc_stats.v3.FilterConfig``: which calls are counted by method. ``methods`` are pairs of service and
    method. The other calls are counted for the cluster."""

    all_methods: bool = False
    methods: frozenset[tuple[str, str]] = frozenset()
    replace_dots_in_service_name: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcWebConfig:
    """``grpc_web.v3.GrpcWeb``, which has no options."""


class PeerMethod(Enum):
    """``DiscoveryMethod`` and ``PropagationMethod`` of ``io.istio.http.peer_metadata.Config``: by the headers
    ``x-envoy-peer-metadata`` and ``x-envoy-peer-metadata-id``, or by the header ``baggage``."""

    ISTIO_HEADERS = "istio_headers"
    BAGGAGE = "baggage"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMetadataConfig:
    """``io.istio.http.peer_metadata.Config``: how this proxy learns the workload of its clients and hosts,
    and how it tells them its own. ``skip_external_clusters``: hosts outside the mesh are not told."""

    downstream_discovery: tuple[PeerMethod, ...] = ()
    upstream_discovery: tuple[PeerMethod, ...] = ()
    downstream_propagation: tuple[PeerMethod, ...] = ()
    upstream_propagation: tuple[PeerMethod, ...] = ()
    skip_external_clusters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlpnConfig:
    """``istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig``: the ALPN protocols to offer to hosts to
    which HTTP/1.1, or HTTP/2, is spoken. Empty: those of the cluster."""

    http1: tuple[str, ...] = ()
    http2: tuple[str, ...] = ()
