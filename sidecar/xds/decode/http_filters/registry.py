"""The decoders of all HTTP filters, by the type of their configuration.

They are found by importing the modules of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

import sidecar.xds.decode.http_filters as package
from sidecar.config.http_filters import RouterConfig
from sidecar.config.listener import HttpFilter
from sidecar.config.route import FilterSwitch, PerFilterConfig
from sidecar.xds.decode.http_filters.decoder import HttpFilterDecoder
from sidecar.xds.decode.support import Support, SupportTable, support
from sidecar.xds.decode.view import View

_HTTP_FILTER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
_FILTER_CONFIG = "envoy.config.route.v3.FilterConfig"


def _decoders() -> Iterator[HttpFilterDecoder]:
    for module in iter_modules(package.__path__):
        decoder = getattr(import_module(f"{package.__name__}.{module.name}"), "DECODER", None)
        if isinstance(decoder, HttpFilterDecoder):
            yield decoder


HTTP_FILTERS: Final[Mapping[str, HttpFilterDecoder]] = {decoder.type_name: decoder for decoder in _decoders()}
"""The decoders by the full name of the filter's configuration."""

_ROUTE_CONFIGS: Final = {
    decoder.route.type_name: decoder.route for decoder in HTTP_FILTERS.values() if decoder.route is not None
}


def _table() -> dict[str, Support]:
    declared = {
        _HTTP_FILTER: support("name typed_config is_optional disabled"),
        _FILTER_CONFIG: support("config is_optional disabled"),
    }
    for decoder in HTTP_FILTERS.values():
        declared |= decoder.table
    return declared


TABLE: Final[SupportTable] = _table()


def decode_http_filters(view: View) -> tuple[HttpFilter, ...]:
    """``HttpConnectionManager.http_filters``. Raises `ConfigError` unless the last filter, and only the last
    one, is the router."""
    filters = []
    router: View | None = None
    for filter_view in view.each("http_filters"):
        http_filter = _http_filter(filter_view)
        if http_filter is None:
            continue
        if router is not None:
            raise router.error("the router must be the last filter")
        if isinstance(http_filter.config, RouterConfig):
            router = filter_view
        filters.append(http_filter)
    if router is None:
        raise view.error("the last filter must be the router", "http_filters")
    return tuple(filters)


def _http_filter(view: View) -> HttpFilter | None:
    """None for an optional filter that is not supported, and for one that has nothing to do."""
    if not view.has("typed_config"):
        raise view.error("is required", "typed_config")
    decoder = HTTP_FILTERS.get(view.packed_type("typed_config"))
    if decoder is None and view.message.is_optional:
        return None
    config_view = view.unpack("typed_config", *HTTP_FILTERS)
    decoder = HTTP_FILTERS[config_view.full_name()]
    config = decoder.decode(config_view)
    if config is None:
        return None
    if view.message.disabled and isinstance(config, RouterConfig):
        raise view.error("the router cannot be disabled", "disabled")
    return HttpFilter(
        name=view.message.name,
        config=config,
        disabled=view.message.disabled,
        clusters=frozenset(decoder.clusters(config)),
    )


def decode_per_filter_config(view: View) -> PerFilterConfig:
    """``typed_per_filter_config`` of a virtual host, a route or a weighted cluster."""
    allowed = (_FILTER_CONFIG, *_ROUTE_CONFIGS)
    return {
        name: _route_config(view.unpack_entry("typed_per_filter_config", name, *allowed))
        for name in sorted(view.message.typed_per_filter_config)
    }


def _route_config(view: View) -> object:
    if view.full_name() != _FILTER_CONFIG:
        return _ROUTE_CONFIGS[view.full_name()].decode(view)
    if view.message.disabled:
        return FilterSwitch.DISABLED
    if not view.has("config"):
        raise view.error("is required, unless the filter is disabled", "config")
    # An empty Any enables the filter. So does an optional configuration that is not supported.
    type_name = view.packed_type("config")
    if not type_name or (view.message.is_optional and type_name not in _ROUTE_CONFIGS):
        return FilterSwitch.ENABLED
    config = view.unpack("config", *_ROUTE_CONFIGS)
    return _ROUTE_CONFIGS[type_name].decode(config)
