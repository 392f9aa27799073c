"""Configurations of HTTP filters. Source: the messages of ``envoy.extensions.filters.http``.

The class of a configuration says which filter it is for; the filter's name in `HttpFilter` can be any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sidecar.config.route import HeaderMatch, HeaderValue


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
