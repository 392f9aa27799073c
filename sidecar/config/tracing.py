"""What is traced, and under which names. Source: ``HttpConnectionManager.Tracing``, ``envoy.config.route.v3``
(``Decorator``, ``Tracing``), ``envoy.type.tracing.v3.CustomTag`` and ``UuidRequestIdConfig``.

No spans are reported. What other proxies see of tracing is honoured: the name of the operation, and the
decision whether to trace, which travels in the request id (`http.tracing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from sidecar.config.fraction import ALL, Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The shares of requests that are traced: of those whose client asks for it (``x-client-trace-id``), of
    the others, and then of both."""

    client: Fraction = ALL
    random: Fraction = ALL
    overall: Fraction = ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteralTag:
    tag: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentTag:
    """The value of an environment variable of the proxy. Without it and without a default, there is no tag;
    the same applies to the other kinds."""

    tag: str
    variable: str
    default: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeaderTag:
    """``header`` is lower-case."""

    tag: str
    header: str
    default: str = ""


class MetadataSource(Enum):
    REQUEST = "request"
    ROUTE = "route"
    CLUSTER = "cluster"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataTag:
    """A value in the metadata of ``source``: under ``namespace``, at ``path``."""

    tag: str
    source: MetadataSource
    namespace: str
    path: tuple[str, ...]
    default: str = ""


CustomTag: TypeAlias = LiteralTag | EnvironmentTag | RequestHeaderTag | MetadataTag


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Of a connection manager. ``max_path_tag_length`` is the longest path in a span, in bytes."""

    sampling: Sampling = Sampling()
    verbose: bool = False
    max_path_tag_length: int = 256
    custom_tags: tuple[CustomTag, ...] = ()
    spawn_upstream_span: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTracing:
    """Of a route: ``sampling`` replaces that of the connection manager; ``custom_tags`` have precedence over
    its tags of the same names."""

    sampling: Sampling = Sampling()
    custom_tags: tuple[CustomTag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decorator:
    """The name of a route's operation. ``propagate``: the proxy at the other end of the connection gets it,
    in a header."""

    operation: str
    propagate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestIdOptions:
    """``pack_trace_reason``: the request id tells other proxies whether the request is traced.
    ``use_for_sampling``: the request id decides about it, so that all proxies decide the same."""

    pack_trace_reason: bool = True
    use_for_sampling: bool = True


DEFAULT_REQUEST_ID = RequestIdOptions()
