"""The HTTP connection managers of all listeners."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.grpc_web.v3.grpc_web_pb2 import GrpcWeb
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

from controlplane.networking.messages import ADS, extension
from controlplane.networking.route_filters import CORS_FILTER, FAULT_FILTER

_NAME: Final = "envoy.filters.network.http_connection_manager"
ROUTER: Final = extension("envoy.filters.http.router", Router())
_GRPC_WEB: Final = extension("envoy.filters.http.grpc_web", GrpcWeb())

# A client that takes longer to send the headers of a request gets a 408. Envoy's default is no limit.
_REQUEST_HEADERS_TIMEOUT: Final = timedelta(seconds=10)

# As in Istio, the application learns the caller's identity only from the certificate that the sidecar
# verified.
_CLIENT_CERTIFICATE: Final = {
    "forward_client_cert_details": "APPEND_FORWARD",
    "set_current_client_cert_details": {"subject": {"value": True}, "dns": True, "uri": True},
}


def outbound_http_filter(
    stat_prefix: str, route_config_name: str, *, connect: bool = False
) -> dict[str, Any]:
    """A connection manager whose routes come over RDS. ``connect``: it accepts CONNECT too."""
    rds = {"config_source": ADS, "route_config_name": route_config_name}
    upgrades = ("websocket", "CONNECT") if connect else ("websocket",)
    # In Istio's order. They act on the routes of VirtualServices that configure them.
    return _filter(stat_prefix, upgrades, (FAULT_FILTER, CORS_FILTER), rds=rds)


def inbound_http_filter(
    stat_prefix: str, routes: RouteConfiguration, *, grpc_web: bool = False
) -> dict[str, Any]:
    """``grpc_web``: the clients may speak gRPC-Web; the application speaks gRPC."""
    filters = (_GRPC_WEB,) if grpc_web else ()
    return _filter(stat_prefix, ("websocket",), filters, route_config=routes, **_CLIENT_CERTIFICATE)


def _filter(
    stat_prefix: str, upgrades: Iterable[str], filters: Iterable[dict[str, Any]], **settings: Any
) -> dict[str, Any]:
    manager = HttpConnectionManager(
        stat_prefix=stat_prefix,
        server_name="istio-envoy",
        use_remote_address={"value": False},
        generate_request_id={"value": True},
        # Istio's pathNormalization BASE: policies match the path that the application reads.
        normalize_path={"value": True},
        http_protocol_options={"allow_absolute_url": {"value": True}},
        request_headers_timeout=_REQUEST_HEADERS_TIMEOUT,
        # Long polls and streams may be idle: only the timeout of a route ends a request.
        stream_idle_timeout=timedelta(0),
        upgrade_configs=[{"upgrade_type": upgrade} for upgrade in upgrades],
        http_filters=[*filters, ROUTER],
        **settings,
    )
    return extension(_NAME, manager)
