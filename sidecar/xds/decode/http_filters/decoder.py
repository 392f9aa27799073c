"""How one HTTP filter is decoded: each module of this folder whose name is a filter's has a `DECODER`."""

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
    """A filter's configuration for a route: the full name of its message, and how it is decoded."""

    type_name: str
    decode: Callable[[View], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilterDecoder:
    """``type_name`` is the full name of the message that configures the filter. ``decode`` turns it into a
    frozen dataclass of `sidecar.config.http_filters`, or raises `ConfigError`. ``route`` None: the filter has
    no configuration for a route. ``clusters`` tells which clusters a configuration uses: the listener waits
    for them to be warm. ``table`` declares the messages that no other decoder reads."""

    type_name: str
    table: SupportTable
    decode: Callable[[View], object]
    route: RouteConfigDecoder | None = None
    clusters: Callable[[Any], Set[str]] = no_clusters
