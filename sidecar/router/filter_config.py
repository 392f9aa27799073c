"""The configurations of HTTP filters in a route configuration: ``typed_per_filter_config`` of its levels,
merged.

The levels of a route are its virtual host, the route, and the weighted cluster, each more specific than the
one before. Source: ``envoy.config.route.v3.Route.typed_per_filter_config``,
``envoy.config.route.v3.FilterConfig``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sidecar.config.route import FilterSwitch, PerFilterConfig

CompileFilterConfig = Callable[[object], object]
"""Compiles a filter's configuration on a route into the value that the filter reads for each request. Raises
`ConfigError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFilterConfig:
    """The configuration of one filter on the levels of a route. `configs` are compiled, the most specific
    level first. `enabled`: the decision of the most specific level that has an entry for the filter."""

    enabled: bool
    configs: tuple[object, ...]


RouteFilterConfigs = Mapping[str, RouteFilterConfig]
"""The configurations by the name of the filter in the chain."""

NO_ROUTE_FILTER_CONFIGS: RouteFilterConfigs = MappingProxyType({})


class FilterLevels:
    """The levels down to one of them, each compiled once, when the route configuration arrives."""

    __slots__ = ("_compile", "_levels")

    def __init__(
        self, compile_config: CompileFilterConfig | None = None, levels: tuple[PerFilterConfig, ...] = ()
    ) -> None:
        """Without `compile_config`, filters read their configurations as they were decoded."""
        self._compile = compile_config
        self._levels = levels

    def with_level(self, level: PerFilterConfig) -> FilterLevels:
        """These levels, and a more specific one. Raises `ConfigError`."""
        if not level:
            return self
        compiled = {name: self._compile_entry(entry) for name, entry in level.items()}
        return FilterLevels(self._compile, (compiled, *self._levels))

    def _compile_entry(self, entry: object) -> object:
        if self._compile is None or isinstance(entry, FilterSwitch):
            return entry
        return self._compile(entry)

    def merge(self) -> RouteFilterConfigs:
        enabled: dict[str, bool] = {}
        configs: dict[str, tuple[object, ...]] = {}
        for level in self._levels:
            for name, entry in level.items():
                enabled.setdefault(name, entry is not FilterSwitch.DISABLED)
                configs.setdefault(name, ())
                if not isinstance(entry, FilterSwitch):
                    configs[name] += (entry,)
        if not enabled:
            return NO_ROUTE_FILTER_CONFIGS
        return {
            name: RouteFilterConfig(enabled=enabled[name], configs=of_filter)
            for name, of_filter in configs.items()
        }
