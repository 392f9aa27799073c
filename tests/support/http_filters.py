"""HTTP filters as xDS configures them, and the decoder's output for them."""

from __future__ import annotations

from typing import Any

from protos import type_urls
from sidecar.config.listener import HttpConnectionManager, HttpFilter, Listener
from sidecar.config.route import RouteConfiguration
from sidecar.xds.decode import decode_resource
from tests.support.ads_server import packed
from tests.support.envoy_config import TYPE, http_connection_manager, listener, rds, router

HEADER_MUTATION = f"{TYPE}/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
HEADER_MUTATION_PER_ROUTE = f"{HEADER_MUTATION}PerRoute"
HEALTH_CHECK = f"{TYPE}/envoy.extensions.filters.http.health_check.v3.HealthCheck"
CORS = f"{TYPE}/envoy.extensions.filters.http.cors.v3.Cors"
CORS_POLICY = f"{CORS}Policy"
FAULT = f"{TYPE}/envoy.extensions.filters.http.fault.v3.HTTPFault"
FILTER_CONFIG = f"{TYPE}/envoy.config.route.v3.FilterConfig"


def http_filter(name: str, type_url: str, *, disabled: bool = False, **config: Any) -> dict[str, Any]:
    return {"name": name, "disabled": disabled, "typed_config": {"@type": type_url, **config}}


def decoded_chain(*filters: dict[str, Any], last: dict[str, Any] | None = None) -> tuple[HttpFilter, ...]:
    """The filters of a listener's only chain; the router is added."""
    manager = http_connection_manager(rds=rds("r"), http_filters=[*filters, last or router()])
    decoded = decode_resource(type_urls.LISTENER, packed(type_urls.LISTENER, listener("l", manager)).value)
    assert isinstance(decoded, Listener)
    chain = decoded.filter_chains[0].filter
    assert isinstance(chain, HttpConnectionManager)
    return chain.http_filters


def decoded_routes(document: dict[str, Any]) -> RouteConfiguration:
    decoded = decode_resource(type_urls.ROUTE, packed(type_urls.ROUTE, document).value)
    assert isinstance(decoded, RouteConfiguration)
    return decoded
