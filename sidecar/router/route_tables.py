"""The route tables in force, by the name of their route configuration."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.route import RouteConfiguration
from sidecar.router.filter_config import CompileFilterConfig
from sidecar.router.match import RouteTable, RouteTableRef


class RouteTables:
    """Connection managers hold a `RouteTableRef`, which may be given out before its table has arrived.
    `compile_filter_config` compiles the filter configurations of routes."""

    def __init__(self, compile_filter_config: CompileFilterConfig | None = None) -> None:
        self._compile_filter_config = compile_filter_config
        self._configs: Mapping[str, RouteConfiguration] = {}
        self._refs: dict[str, RouteTableRef] = {}

    def ref(self, name: str) -> RouteTableRef:
        return self._refs.setdefault(name, RouteTableRef())

    def inline(self, config: RouteConfiguration) -> RouteTableRef:
        """The table of a route configuration inside a connection manager. Raises `ConfigError`."""
        return RouteTableRef(RouteTable(config, self._compile_filter_config))

    def compile(self, configs: Mapping[str, RouteConfiguration]) -> Mapping[str, RouteTable]:
        """The tables of those configurations that are new or have changed. Raises `ConfigError`."""
        return {
            name: RouteTable(config, self._compile_filter_config)
            for name, config in configs.items()
            if self._configs.get(name) is not config
        }

    def use(self, configs: Mapping[str, RouteConfiguration], compiled: Mapping[str, RouteTable]) -> None:
        """Puts the configurations in force; `compiled` is the answer of `compile` for them. A removed table
        stays with the connections that drain with it."""
        for name, table in compiled.items():
            self.ref(name).current = table
        for name in self._refs.keys() - configs.keys():
            del self._refs[name]
        self._configs = configs
