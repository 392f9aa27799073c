"""The decoder of one HTTP filter. A module of this folder that has a ``DECODER`` decodes a filter."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from sidecar.xds.decode.support import SupportTable
from sidecar.xds.decode.view import View


def no_clusters(_: Any) -> Set[str]:
    return frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfigDecoder:
    """Decodes a filter's configuration for a route. ``type_name`` is the full name of its message."""

    type_name: str
    decode: Callable[[View], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilterDecoder:
    """Decodes a filter's configuration. ``type_name`` is the full name of its message. ``decode`` returns a
    frozen dataclass of `sidecar.config.http_filters`, or None if the filter has nothing to do, and raises
    `ConfigError`. ``route`` None: the filter
    has no configuration for a route. ``clusters`` returns the clusters that a configuration uses: the
    listener waits for them to be warm. ``table`` declares the messages that no other decoder reads."""

    type_name: str
    table: SupportTable
    decode: Callable[[View], object]
    route: RouteConfigDecoder | None = None
    clusters: Callable[[Any], Set[str]] = no_clusters
