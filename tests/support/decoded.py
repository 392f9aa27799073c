"""Resources with one field changed, as the decoder returns them."""

from __future__ import annotations

from typing import Any

from protos import type_urls
from sidecar.config.cluster import ClusterConfig
from sidecar.config.listener import HttpConnectionManager, Listener
from sidecar.config.route import ForwardAction, RouteConfiguration
from sidecar.xds.decode import decode_resource
from tests.support.ads_server import packed
from tests.support.envoy_config import changed, http_connection_manager, listener, rds, route_configuration

ROUTE = "virtual_hosts[0].routes[0]"
FORWARD = f"{ROUTE}.route"
MANAGER = "filter_chains[0].filters[0].typed_config"
ALL = frozenset(("static",))


def cluster_with(document: dict[str, Any], path: str = "alt_stat_name", value: object = "") -> ClusterConfig:
    decoded = decode_resource(
        type_urls.CLUSTER, packed(type_urls.CLUSTER, changed(document, path, value)).value, ALL
    )
    assert isinstance(decoded, ClusterConfig)
    return decoded


def routes_with(path: str = "metadata", value: object = None) -> RouteConfiguration:
    document = changed(route_configuration(), path, value if value is not None else {})
    decoded = decode_resource(type_urls.ROUTE, packed(type_urls.ROUTE, document).value)
    assert isinstance(decoded, RouteConfiguration)
    return decoded


def action_with(path: str, value: object) -> ForwardAction:
    action = routes_with(f"{FORWARD}.{path}" if path else FORWARD, value).virtual_hosts[0].routes[0].action
    assert isinstance(action, ForwardAction)
    return action


def listener_with(document: dict[str, Any], path: str = "stat_prefix", value: object = "") -> Listener:
    decoded = decode_resource(
        type_urls.LISTENER, packed(type_urls.LISTENER, changed(document, path, value)).value, ALL
    )
    assert isinstance(decoded, Listener)
    return decoded


def manager_with(path: str, value: object) -> HttpConnectionManager:
    document = listener("l", http_connection_manager(rds=rds("r")))
    chain = listener_with(document, f"{MANAGER}.{path}", value).filter_chains[0]
    assert isinstance(chain.filter, HttpConnectionManager)
    return chain.filter
