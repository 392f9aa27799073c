"""``/config_dump`` in Envoy's format: the resources in force, the warming ones, and the rejected ones with
the reason.

https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol and ``envoy.admin.v3.ConfigDump``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from protos import type_urls
from sidecar.config.bootstrap import Bootstrap
from sidecar.errors import ConfigError
from sidecar.regex import RegexError, compile_full_match
from sidecar.xds.decode import bootstrap_json, resource_json
from sidecar.xds.state import XdsState
from sidecar.xds.store import Accepted, Rejected, Store
from sidecar.xds.warming import Warming

_PREFIX = "type.googleapis.com"
_CONFIGS = {
    "bootstrap": "BootstrapConfigDump",
    "clusters": "ClustersConfigDump",
    "endpoints": "EndpointsConfigDump",
    "listeners": "ListenersConfigDump",
    "routes": "RoutesConfigDump",
    "secrets": "SecretsConfigDump",
}
_STATIC_TYPES = {
    "listeners": type_urls.LISTENER,
    "clusters": type_urls.CLUSTER,
    "secrets": f"{_PREFIX}/envoy.extensions.transport_sockets.tls.v3.Secret",
}
# The repeated fields that ?resource can name: the section of each, and the message of its items.
_FIELDS = {
    "static_clusters": ("clusters", "StaticCluster"),
    "dynamic_active_clusters": ("clusters", "DynamicCluster"),
    "dynamic_warming_clusters": ("clusters", "DynamicCluster"),
    "static_endpoint_configs": ("endpoints", "StaticEndpointConfig"),
    "dynamic_endpoint_configs": ("endpoints", "DynamicEndpointConfig"),
    "static_listeners": ("listeners", "StaticListener"),
    "dynamic_listeners": ("listeners", "DynamicListener"),
    "static_route_configs": ("routes", "StaticRouteConfig"),
    "dynamic_route_configs": ("routes", "DynamicRouteConfig"),
    "static_secrets": ("secrets", "StaticSecret"),
}

Entries = list[dict[str, Any]]


class ConfigDump:
    """Dumps are rare: each one is rendered from the bytes of the resources."""

    def __init__(self, bootstrap: Bootstrap, store: Store, warming: Warming, state: XdsState) -> None:
        self._bootstrap = bootstrap
        self._store = store
        self._warming = warming
        self._state = state

    @cached_property
    def _static_document(self) -> dict[str, Any]:
        return bootstrap_json(self._bootstrap.message)

    def render(
        self, *, include_eds: bool = False, resource: str | None = None, name_regex: str | None = None
    ) -> dict[str, Any]:
        """``resource`` is a repeated field, such as ``dynamic_listeners``: then only its items are rendered.
        Raises `ConfigError` for an unknown ``resource`` and for a ``name_regex`` that does not compile."""
        keep = _name_filter(name_regex)
        sections: dict[str, Callable[[Callable[[str], bool]], dict[str, Any]]] = {
            "bootstrap": lambda _: {"bootstrap": self._static_document},
            "clusters": self._clusters,
            "endpoints": self._endpoints,
            "listeners": self._listeners,
            "routes": self._routes,
            "secrets": lambda keep: {"static_secrets": self._static("secrets", "secret", keep)},
        }
        if resource is None:
            shown = [name for name in sections if include_eds or name != "endpoints"]
            return {"configs": [{"@type": _type(name), **sections[name](keep)} for name in shown]}
        if resource not in _FIELDS:
            raise ConfigError("resource", f"{resource} is not a repeated field of a config dump")
        name, item = _FIELDS[resource]
        item_type = f"{_type(name)}.{item}"
        return {"configs": [{"@type": item_type, **entry} for entry in sections[name](keep)[resource]]}

    def _clusters(self, keep: Callable[[str], bool]) -> dict[str, Any]:
        warming = self._warming.warming_clusters
        active: Entries = []
        waiting: Entries = []
        for entry_name, entry in self._dynamic(type_urls.CLUSTER, "cluster", keep):
            (waiting if entry_name in warming else active).append(entry)
        return {
            "version_info": self._state.types[type_urls.CLUSTER].version_text,
            "static_clusters": self._static("clusters", "cluster", keep),
            "dynamic_active_clusters": active,
            "dynamic_warming_clusters": waiting,
        }

    def _listeners(self, keep: Callable[[str], bool]) -> dict[str, Any]:
        kind = self._store.types[type_urls.LISTENER]
        warming = self._warming.warming_listeners
        listeners = []
        for name in _names(kind.accepted, kind.rejected, keep):
            entry: dict[str, Any] = {"name": name}
            if name in kind.accepted:
                state = "warming_state" if name in warming else "active_state"
                entry[state] = _resource(type_urls.LISTENER, "listener", kind.accepted[name])
            if name in kind.rejected:
                entry["error_state"] = _error_state(type_urls.LISTENER, kind.rejected[name])
            listeners.append(entry)
        return {
            "version_info": self._state.types[type_urls.LISTENER].version_text,
            "static_listeners": self._static("listeners", "listener", keep),
            "dynamic_listeners": listeners,
        }

    def _routes(self, keep: Callable[[str], bool]) -> dict[str, Any]:
        entries = [entry for _, entry in self._dynamic(type_urls.ROUTE, "route_config", keep)]
        return {"static_route_configs": self._inline_routes(keep), "dynamic_route_configs": entries}

    def _inline_routes(self, keep: Callable[[str], bool]) -> Entries:
        """The route configurations inside listeners, static and dynamic ones."""
        accepted = self._store.types[type_urls.LISTENER].accepted.values()
        listeners = [
            *self._static_document.get("static_resources", {}).get("listeners", []),
            *(resource_json(type_urls.LISTENER, listener.body) for listener in accepted),
        ]
        return [
            {"route_config": {"@type": type_urls.ROUTE, **routes}}
            for listener in listeners
            for routes in _route_configs(listener)
            if keep(routes.get("name", ""))
        ]

    def _endpoints(self, keep: Callable[[str], bool]) -> dict[str, Any]:
        static = [
            {"endpoint_config": {"@type": type_urls.ENDPOINT, **cluster["load_assignment"]}}
            for cluster in self._static_document.get("static_resources", {}).get("clusters", [])
            if "load_assignment" in cluster and keep(cluster["name"])
        ]
        entries = [entry for _, entry in self._dynamic(type_urls.ENDPOINT, "endpoint_config", keep)]
        return {"static_endpoint_configs": static, "dynamic_endpoint_configs": entries}

    def _dynamic(
        self, type_url: str, field: str, keep: Callable[[str], bool]
    ) -> Iterable[tuple[str, dict[str, Any]]]:
        kind = self._store.types[type_url]
        for name in _names(kind.accepted, kind.rejected, keep):
            entry = _resource(type_url, field, kind.accepted[name]) if name in kind.accepted else {}
            if name in kind.rejected:
                entry["error_state"] = _error_state(type_url, kind.rejected[name])
                entry["client_status"] = "NACKED"
            yield name, entry

    def _static(self, field: str, item: str, keep: Callable[[str], bool]) -> Entries:
        entries: Entries = []
        for resource in self._static_document.get("static_resources", {}).get(field, []):
            name = resource.get("name", "")
            if keep(name):
                entry = {item: {"@type": _STATIC_TYPES[field], **resource}}
                entries.append({"name": name, **entry} if field == "secrets" else entry)
        return entries


def _type(section: str) -> str:
    return f"{_PREFIX}/envoy.admin.v3.{_CONFIGS[section]}"


def _name_filter(name_regex: str | None) -> Callable[[str], bool]:
    if name_regex is None:
        return lambda name: True
    try:
        matches = compile_full_match(name_regex)
    except RegexError as error:
        raise ConfigError("name_regex", f"does not compile: {error}") from None
    return lambda name: matches(name.encode())


def _route_configs(listener: Mapping[str, Any]) -> Entries:
    chains = [*listener.get("filter_chains", []), listener.get("default_filter_chain", {})]
    configs = [filter_["typed_config"] for chain in chains for filter_ in chain.get("filters", [])]
    return [config["route_config"] for config in configs if "route_config" in config]


def _names(
    accepted: Mapping[str, Accepted], rejected: Mapping[str, Rejected], keep: Callable[[str], bool]
) -> list[str]:
    return sorted(name for name in accepted.keys() | rejected.keys() if keep(name))


def _resource(type_url: str, field: str, resource: Accepted) -> dict[str, Any]:
    return {
        "version_info": resource.version,
        field: resource_json(type_url, resource.body),
        "last_updated": _timestamp(resource.updated_s),
        "client_status": "ACKED",
    }


def _error_state(type_url: str, rejected: Rejected) -> dict[str, Any]:
    state = {
        "last_update_attempt": _timestamp(rejected.failed_s),
        "details": rejected.error,
        "version_info": rejected.version,
    }
    with suppress(ConfigError):  # bytes that do not parse have no JSON form
        state["failed_configuration"] = resource_json(type_url, rejected.body)
    return state


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
