"""The fields that an istiod can send, and that are refused, each by its path. `docs/istio.md` lists them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from envoy.extensions.access_loggers.open_telemetry.v3 import logs_service_pb2  # noqa: F401 - in an Any
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2  # noqa: F401
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2  # noqa: F401
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2  # noqa: F401
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2  # noqa: F401
from envoy.extensions.filters.http.wasm.v3 import wasm_pb2  # noqa: F401
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2  # noqa: F401

from sidecar.errors import ConfigError
from tests.support.decoded import (
    FORWARD,
    MANAGER,
    ROUTE,
    cluster_with,
    listener_with,
    manager_with,
    routes_with,
)
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    http_connection_manager,
    listener,
    rds,
    router,
    static_cluster,
    upstream_tls,
)

PAGE = Path(__file__).parents[5] / "docs" / "istio.md"
FILTERS = f"{TYPE}/envoy.extensions.filters"
LOGS = f"{TYPE}/envoy.extensions.access_loggers"
OPERATOR = [{"header": {"key": "x", "value": "%DOWNSTREAM_REMOTE_ADDRESS%"}}]
CLAIM = {"filter": "istio_authn", "path": [{"key": "a"}], "value": {"string_match": {"exact": "b"}}}
FILE_LOG = {"@type": f"{LOGS}.file.v3.FileAccessLog", "path": "/dev/stdout"}

Decode = Callable[[str, Any], object]


def http_filters(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "typed_config": {"@type": f"{FILTERS}.http.{name}"}}, router()]


def in_listener(path: str, value: object) -> object:
    return listener_with(listener("l", http_connection_manager(rds=rds("r"))), path, value)


def in_tcp_proxy(path: str, value: object) -> object:
    tcp = {"@type": f"{FILTERS}.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}
    return listener_with(listener("l", {"name": "tcp", "typed_config": tcp}), f"{MANAGER}.{path}", value)


def in_tls(path: str, value: object) -> object:
    validation = {"trusted_ca": {"filename": "/ca.pem"}}
    document = {**static_cluster("c"), "transport_socket": upstream_tls(validation_context=validation)}
    return cluster_with(document, f"transport_socket.typed_config.common_tls_context.{path}", value)


def in_http_options(path: str, value: object) -> object:
    options = {"@type": f"{TYPE}/{HTTP_OPTIONS}", "explicit_http_config": {"http_protocol_options": {}}}
    document = {**static_cluster("c"), "typed_extension_protocol_options": {HTTP_OPTIONS: options}}
    return cluster_with(document, f"typed_extension_protocol_options[{HTTP_OPTIONS}].{path}", value)


in_cluster: Decode = partial(cluster_with, static_cluster("c"))
KEY_FORMAT = {"stateful_formatter": {"name": "preserve_case"}}
SLOW_START = {"slow_start_config": {"slow_start_window": "10s"}}
RAW_LOG = {"@type": f"{LOGS}.open_telemetry.v3.OpenTelemetryAccessLogConfig"}
PRIORITY = {"retry_on": "5xx", "retry_priority": {"name": "envoy.retry_priorities.previous_priorities"}}
DISCOVERED = [{"name": "w", "config_discovery": {"config_source": {"ads": {}}, "type_urls": ["w"]}}, router()]
SOCKET = {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/socket"}}}}]}]}
SECRET = [{"name": "kubernetes://credential", "sds_config": {"ads": {}}}]
NETWORK_RBAC = [
    {"name": "rbac", "typed_config": {"@type": f"{FILTERS}.network.rbac.v3.RBAC", "stat_prefix": "r"}}
]


@pytest.mark.parametrize(
    ("decode", "path", "value", "named"),
    [
        (manager_with, "http_filters", http_filters("rbac.v3.RBAC"), "rbac"),
        (in_listener, "filter_chains[0].filters", NETWORK_RBAC, "rbac"),
        (manager_with, "http_filters", http_filters("ext_authz.v3.ExtAuthz"), "ext_authz"),
        (manager_with, "http_filters", http_filters("jwt_authn.v3.JwtAuthentication"), "jwt_authn"),
        (
            manager_with,
            "http_filters",
            http_filters("stateful_session.v3.StatefulSession"),
            "stateful_session",
        ),
        (manager_with, "http_filters", http_filters("wasm.v3.Wasm"), "Wasm"),
        (manager_with, "http_filters", DISCOVERED, "config_discovery"),
        (routes_with, f"{ROUTE}.match.dynamic_metadata", [CLAIM], "dynamic_metadata"),
        (routes_with, f"{FORWARD}.request_mirror_policies", [{"cluster": "b"}], "request_mirror_policies"),
        (routes_with, f"{ROUTE}.request_headers_to_add", OPERATOR, "request_headers_to_add"),
        (routes_with, f"{ROUTE}.response_headers_to_add", OPERATOR, "response_headers_to_add"),
        (routes_with, f"{FORWARD}.retry_policy", PRIORITY, "retry_priority"),
        (in_cluster, "ring_hash_lb_config", {}, "ring_hash_lb_config"),
        (in_cluster, "maglev_lb_config", {}, "maglev_lb_config"),
        (in_cluster, "common_lb_config.locality_weighted_lb_config", {}, "locality_weighted_lb_config"),
        (in_cluster, "least_request_lb_config", SLOW_START, "slow_start_config"),
        (in_cluster, "round_robin_lb_config", SLOW_START, "slow_start_config"),
        (
            partial(cluster_with, {"name": "c"}),
            "cluster_type",
            {"name": "envoy.clusters.dynamic_forward_proxy"},
            "cluster_type",
        ),
        (in_cluster, "load_assignment", {"cluster_name": "c", **SOCKET}, "pipe"),
        (in_tcp_proxy, "tunneling_config", {"hostname": "h"}, "tunneling_config"),
        (in_tls, "tls_certificate_sds_secret_configs", SECRET, "secret"),
        (in_tls, "validation_context.crl", {"filename": "/crl.pem"}, "crl"),
        (in_tls, "tls_params.ecdh_curves", ["P-256"], "ecdh_curves"),
        (
            in_http_options,
            "explicit_http_config.http_protocol_options.header_key_format",
            KEY_FORMAT,
            "header_key_format",
        ),
        (manager_with, "http_protocol_options.header_key_format", KEY_FORMAT, "header_key_format"),
        (manager_with, "http_protocol_options.accept_http_10", True, "accept_http_10"),
        (manager_with, "server_header_transformation", "PASS_THROUGH", "server_header_transformation"),
        (manager_with, "http_filters[0].typed_config.suppress_envoy_headers", True, "suppress_envoy_headers"),
        (
            manager_with,
            "path_with_escaped_slashes_action",
            "UNESCAPE_AND_FORWARD",
            "path_with_escaped_slashes_action",
        ),
        (
            manager_with,
            "access_log",
            [{"filter": {"extension_filter": {"name": "cel"}}, "typed_config": FILE_LOG}],
            "extension_filter",
        ),
        (manager_with, "access_log", [{"typed_config": RAW_LOG}], "access log"),
    ],
)
def test_a_field_of_istio_that_is_not_supported_is_refused_by_its_path(
    decode: Decode, path: str, value: object, named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(path, value)
    field = re.sub(r"\[[^\]]*\]$", "", path).rpartition(".")[2]
    assert field in caught.value.path
    assert "support" in caught.value.reason
    assert named in PAGE.read_text(), "the documentation names it"
    assert named in str(caught.value) or named == "access log"
