"""Route configurations. Source: ``envoy.config.route.v3``.

Plain values: `router.match` compiles them once, when the configuration arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from sidecar.config.tracing import Decorator, RouteTracing


class StringMatchKind(Enum):
    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"  # RE2, whole value
    PRESENT = "present"
    RANGE = "range"  # headers only: an integer in [range_start, range_end)


@dataclass(frozen=True, slots=True, kw_only=True)
class StringMatch:
    kind: StringMatchKind
    value: str = ""
    ignore_case: bool = False
    range_start: int = 0
    range_end: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """``HeaderMatcher``. ``name`` is lower-case; it can be ``:method``, ``:path``, ``:authority`` or
    ``:scheme``."""

    name: str
    match: StringMatch
    invert: bool = False
    treat_missing_as_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameterMatch:
    name: str
    match: StringMatch


class PathMatchKind(Enum):
    PREFIX = "prefix"
    EXACT = "path"
    REGEX = "safe_regex"
    PATH_SEPARATED_PREFIX = "path_separated_prefix"
    CONNECT = "connect_matcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteMatch:
    """``RouteMatch``. ``path`` is matched against the path without the query string."""

    path_kind: PathMatchKind
    path: str = ""
    case_sensitive: bool = True
    headers: tuple[HeaderMatch, ...] = ()
    query_parameters: tuple[QueryParameterMatch, ...] = ()


class AppendAction(Enum):
    """``HeaderValueOption.HeaderAppendAction``."""

    APPEND_IF_EXISTS_OR_ADD = 0
    ADD_IF_ABSENT = 1
    OVERWRITE_IF_EXISTS_OR_ADD = 2
    OVERWRITE_IF_EXISTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValue:
    """``name`` is lower-case. ``value`` is a literal (``%%`` is already one ``%``)."""

    name: bytes
    value: bytes
    action: AppendAction = AppendAction.APPEND_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderOperations:
    request_set: tuple[HeaderValue, ...] = ()
    request_remove: tuple[bytes, ...] = ()
    response_set: tuple[HeaderValue, ...] = ()
    response_remove: tuple[bytes, ...] = ()


NO_HEADER_OPERATIONS = HeaderOperations()


class FilterSwitch(Enum):
    """An ``envoy.config.route.v3.FilterConfig`` without a configuration."""

    DISABLED = "disabled"
    ENABLED = "enabled"


PerFilterConfig: TypeAlias = Mapping[str, object]
"""By the filter's name in the chain: its configuration for the route, which also enables it, or a
`FilterSwitch`. The most specific level that has an entry decides whether the filter is enabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """``RetryPolicy``. ``retry_on`` holds Envoy's names of the conditions. If ``per_try_timeout_s`` is 0,
    only the route's timeout applies. ``previous_hosts``: a retry avoids hosts that were tried
    (``envoy.retry_host_predicates.previous_hosts``); the balancer is asked up to
    ``host_selection_max_attempts`` times."""

    retry_on: frozenset[str]
    num_retries: int = 1
    per_try_timeout_s: float = 0.0
    retriable_status_codes: frozenset[int] = frozenset()
    retriable_headers: tuple[HeaderMatch, ...] = ()
    back_off_base_interval_s: float = 0.025
    back_off_max_interval_s: float = 0.25
    previous_hosts: bool = False
    host_selection_max_attempts: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedCluster:
    name: str
    weight: int = 1
    headers: HeaderOperations = NO_HEADER_OPERATIONS
    metadata_match: Mapping[str, str] = field(default_factory=dict)
    host_rewrite: str = ""
    per_filter_config: PerFilterConfig = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexRewrite:
    """``RegexMatchAndSubstitute``: RE2, ``\\1`` groups in the substitution."""

    pattern: str
    substitution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderHash:
    """All values of the header, sorted, each after ``regex_rewrite``. ``name`` is lower-case."""

    name: str
    regex_rewrite: RegexRewrite | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieHash:
    """The value of a cookie. If a request has none and ``ttl_s`` is set, the response sets the cookie to a
    generated value; ``ttl_s`` 0 is a session cookie. ``attributes`` are names and values."""

    name: str
    ttl_s: int | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameterHash:
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIpHash:
    """The client's IP address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashPolicy:
    """``RouteAction.HashPolicy``. Policies apply in order, and each adds to the hash. ``terminal``: if there
    is a hash, the policies after it are skipped."""

    source: HeaderHash | CookieHash | QueryParameterHash | SourceIpHash
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxStreamDuration:
    """``RouteAction.MaxStreamDuration``: limits the time from the beginning of a request to the end of its
    response; 0 is no limit. If ``grpc_timeout_header_max_s`` is set, the client's ``grpc-timeout`` replaces
    ``limit_s``: at most that maximum (0: any), less ``grpc_timeout_header_offset_s``."""

    limit_s: float | None = None
    grpc_timeout_header_max_s: float | None = None
    grpc_timeout_header_offset_s: float = 0.0


# Envoy's default, if ``per_connection_buffer_limit_bytes`` of the listener is not set.
DEFAULT_REPLAY_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardAction:
    """``RouteAction``. Weights are relative to their sum. Timeouts of 0 are disabled. A request whose body is
    longer than ``replay_limit_bytes`` is not retried. ``timeout_s``, and
    ``max_grpc_timeout_s``, which replaces it for gRPC calls, have no effect with ``max_stream_duration``."""

    clusters: tuple[WeightedCluster, ...] = ()
    cluster_header: str = ""
    cluster_not_found_status: int = 503
    timeout_s: float = 15.0
    idle_timeout_s: float | None = None
    max_grpc_timeout_s: float | None = None
    grpc_timeout_offset_s: float = 0.0
    max_stream_duration: MaxStreamDuration | None = None
    retry_policy: RetryPolicy | None = None
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    host_rewrite: str = ""
    auto_host_rewrite: bool = False
    append_x_forwarded_host: bool = False
    upgrades: Mapping[str, bool] = field(default_factory=dict)  # the connection manager decides about others
    terminate_connect: bool = False  # upgrade CONNECT with a connect_config: its payload goes out as raw TCP
    metadata_match: Mapping[str, str] = field(default_factory=dict)
    replay_limit_bytes: int = DEFAULT_REPLAY_LIMIT_BYTES
    hash_policies: tuple[HashPolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectAction:
    """``RedirectAction``. ``port`` 0 keeps the port."""

    status: int = 301
    scheme: str = ""
    https_redirect: bool = False
    host: str = ""
    port: int = 0
    path: str = ""
    prefix_rewrite: str = ""
    regex_rewrite: RegexRewrite | None = None
    strip_query: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectResponseAction:
    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    name: str
    match: RouteMatch
    action: ForwardAction | RedirectAction | DirectResponseAction
    headers: HeaderOperations = NO_HEADER_OPERATIONS
    per_filter_config: PerFilterConfig = field(default_factory=dict)
    decorator: Decorator | None = None
    tracing: RouteTracing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualHost:
    """``domains``: exact, ``*.suffix``, ``prefix.*`` and ``*``; the most specific one wins;
    case-insensitive."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]
    headers: HeaderOperations = NO_HEADER_OPERATIONS
    retry_policy: RetryPolicy | None = None
    include_request_attempt_count: bool = False
    per_filter_config: PerFilterConfig = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfiguration:
    """``validate_clusters``: None is Envoy's default: only the clusters of a configuration inside a listener
    are checked."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    headers: HeaderOperations = NO_HEADER_OPERATIONS
    ignore_port_in_host_matching: bool = False
    most_specific_header_mutations_wins: bool = False
    validate_clusters: bool | None = None
