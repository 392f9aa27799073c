"""Fields of a bootstrap file with invalid values, and the path that the error must name."""

from __future__ import annotations

from tests.support.envoy_config import (
    ABSENT,
    CHAIN,
    CLUSTER,
    ENDPOINT,
    HOST,
    HTTP_OPTIONS,
    LISTENER,
    MANAGER,
    ROUTE,
    TYPE,
    address,
    downstream_tls,
    listener,
    load_assignment,
    router,
    static_cluster,
    tcp_proxy,
    upstream_tls,
)

NAMED = "static_resources.clusters[2]"


FORWARD = f"{ROUTE}.route"


RETRY = f"{FORWARD}.retry_policy"


OUTLIER = f"{CLUSTER}.outlier_detection"


HEADER = {"header": {"key": "x", "value": "y"}}


def cares(**fields: object) -> dict[str, object]:
    config = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    return {"name": "cares", "typed_config": {"@type": f"{TYPE}/{config}", **fields}}


# The field, the value that makes it wrong, and where the error is, when that is elsewhere.
INVALID: list[tuple[str, object, str]] = [
    # Listeners.
    (f"{LISTENER}.address", ABSENT, ""),
    (f"{LISTENER}.address", address(0, "example.com"), f"{LISTENER}.address.socket_address.address"),
    (f"{LISTENER}.address", address(65536), f"{LISTENER}.address.socket_address.port_value"),
    (f"{LISTENER}.address.socket_address.address", "", ""),
    (f"{LISTENER}.filter_chains", [], ""),
    (f"{LISTENER}.listener_filters_timeout", "-1s", ""),
    (f"{LISTENER}.listener_filters[0]", {"name": ""}, f"{LISTENER}.listener_filters[0].name"),
    (
        f"{LISTENER}.filter_chains[1]",
        {"filters": [tcp_proxy()]},
        f"{LISTENER}.filter_chains[1].filter_chain_match",
    ),
    (f"{CHAIN}.filter_chain_match.destination_port", 0, ""),
    (f"{CHAIN}.filter_chain_match.destination_port", 65536, ""),
    (f"{CHAIN}.filter_chain_match.server_names", ["a*.com"], f"{CHAIN}.filter_chain_match.server_names[0]"),
    (
        f"{CHAIN}.filter_chain_match.prefix_ranges",
        [{"address_prefix": "1.2.3", "prefix_len": 8}],
        f"{CHAIN}.filter_chain_match.prefix_ranges[0]",
    ),
    (
        f"{CHAIN}.transport_socket",
        {"name": "envoy.transport_sockets.tls"},
        f"{CHAIN}.transport_socket.typed_config",
    ),
    (
        f"{CHAIN}.transport_socket",
        downstream_tls(),
        f"{CHAIN}.transport_socket.typed_config.common_tls_context",
    ),
    (
        f"{CHAIN}.transport_socket",
        downstream_tls(tls_certificate_sds_secret_configs=[{"name": "none"}]),
        f"{CHAIN}.transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs[0].name",
    ),
    # The HTTP connection manager.
    (f"{MANAGER}.stat_prefix", "", ""),
    (f"{MANAGER}.route_config", ABSENT, MANAGER),
    (f"{MANAGER}.http_filters", [router(), router()], f"{MANAGER}.http_filters[0]"),
    (f"{MANAGER}.http_filters[0].name", "", ""),
    (f"{MANAGER}.codec_type", 77, ""),
    (f"{MANAGER}.max_request_headers_kb", 0, ""),
    (f"{MANAGER}.max_request_headers_kb", 8193, ""),
    (f"{MANAGER}.common_http_protocol_options.max_headers_count", 0, ""),
    (f"{MANAGER}.stream_idle_timeout", "-1s", ""),
    (f"{MANAGER}.request_headers_timeout", "-0.5s", ""),
    (
        f"{MANAGER}.upgrade_configs",
        [{"upgrade_type": "a"}, {"upgrade_type": "A"}],
        f"{MANAGER}.upgrade_configs[1]",
    ),
    (f"{MANAGER}.server_name", "a\nb", ""),
    (f"{MANAGER}.access_log", [{"name": "x"}], f"{MANAGER}.access_log[0].typed_config"),
    (
        f"{MANAGER}.access_log",
        [
            {
                "name": "x",
                "typed_config": {"@type": f"{TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog"},
            }
        ],
        f"{MANAGER}.access_log[0].typed_config.path",
    ),
    # Routes.
    (f"{HOST}.name", "", ""),
    (f"{HOST}.domains", [], ""),
    (f"{HOST}.domains", ["a.com", "a.com"], f"{HOST}.domains[1]"),
    (f"{HOST}.domains", ["*", "*"], f"{HOST}.domains[1]"),
    (f"{HOST}.domains", ["a.com", "A.com"], f"{HOST}.domains[1]"),
    (
        f"{MANAGER}.route_config.virtual_hosts[1]",
        {"name": "other", "domains": ["*"]},
        f"{MANAGER}.route_config.virtual_hosts[1].domains[0]",
    ),
    (f"{ROUTE}.match", ABSENT, ""),
    (f"{ROUTE}.match", {}, ""),
    (f"{ROUTE}.route", ABSENT, ROUTE),
    (f"{ROUTE}.match", {"safe_regex": {"regex": "("}}, f"{ROUTE}.match.safe_regex.regex"),
    (f"{ROUTE}.match", {"safe_regex": {"regex": ""}}, f"{ROUTE}.match.safe_regex.regex"),
    (f"{ROUTE}.match", {"path_separated_prefix": "/a/"}, f"{ROUTE}.match.path_separated_prefix"),
    (f"{ROUTE}.match.headers", [{"name": ""}], f"{ROUTE}.match.headers[0].name"),
    (f"{ROUTE}.match.headers", [{"name": "a", "prefix_match": ""}], f"{ROUTE}.match.headers[0].prefix_match"),
    (
        f"{ROUTE}.match.headers",
        [{"name": "a", "string_match": {}}],
        f"{ROUTE}.match.headers[0].string_match",
    ),
    (
        f"{ROUTE}.match.headers",
        [{"name": "a", "string_match": {"safe_regex": {"regex": "["}}}],
        f"{ROUTE}.match.headers[0].string_match.safe_regex.regex",
    ),
    (f"{ROUTE}.match.query_parameters", [{"name": ""}], f"{ROUTE}.match.query_parameters[0].name"),
    (f"{FORWARD}.cluster", "", ""),
    (f"{FORWARD}.cluster", "unknown", LISTENER),
    (f"{FORWARD}", {"weighted_clusters": {"clusters": []}}, f"{FORWARD}.weighted_clusters.clusters"),
    (
        f"{FORWARD}",
        {"weighted_clusters": {"clusters": [{"name": "a", "weight": 0}, {"name": "b", "weight": 0}]}},
        f"{FORWARD}.weighted_clusters.clusters",
    ),
    (
        f"{FORWARD}",
        {"weighted_clusters": {"clusters": [{"name": "a", "weight": 2**31}, {"name": "b", "weight": 2**31}]}},
        f"{FORWARD}.weighted_clusters.clusters",
    ),
    (
        f"{FORWARD}",
        {"weighted_clusters": {"clusters": [{"weight": 1}]}},
        f"{FORWARD}.weighted_clusters.clusters[0]",
    ),
    (f"{FORWARD}.timeout", "-1s", ""),
    (f"{FORWARD}.idle_timeout", "-1s", ""),
    (f"{FORWARD}.regex_rewrite", {"pattern": {"regex": "("}}, f"{FORWARD}.regex_rewrite.pattern.regex"),
    (
        f"{FORWARD}",
        {"cluster": "a", "prefix_rewrite": "/", "regex_rewrite": {"pattern": {"regex": "a"}}},
        FORWARD,
    ),
    (f"{FORWARD}.prefix_rewrite", "/\r\n", ""),
    (f"{FORWARD}.host_rewrite_literal", "a\nb", ""),
    (
        f"{FORWARD}.upgrade_configs",
        [{"upgrade_type": "w"}, {"upgrade_type": "w"}],
        f"{FORWARD}.upgrade_configs[1]",
    ),
    (
        f"{FORWARD}.upgrade_configs",
        [{"upgrade_type": "websocket", "connect_config": {}}],
        f"{FORWARD}.upgrade_configs[0].connect_config",
    ),
    (f"{RETRY}.retry_back_off", {}, f"{RETRY}.retry_back_off.base_interval"),
    (f"{RETRY}.retry_back_off", {"base_interval": "0s"}, f"{RETRY}.retry_back_off.base_interval"),
    (
        f"{RETRY}.retry_back_off",
        {"base_interval": "2s", "max_interval": "1s"},
        f"{RETRY}.retry_back_off.max_interval",
    ),
    (f"{RETRY}.retry_host_predicate", [{"name": ""}], f"{RETRY}.retry_host_predicate[0].name"),
    (
        f"{ROUTE}.request_headers_to_add",
        [{"header": {"key": ""}}],
        f"{ROUTE}.request_headers_to_add[0].header.key",
    ),
    (f"{ROUTE}.request_headers_to_add", [{}], f"{ROUTE}.request_headers_to_add[0].header"),
    (
        f"{ROUTE}.request_headers_to_add",
        [{"header": {"key": ":path", "value": "/"}}],
        f"{ROUTE}.request_headers_to_add[0].header.key",
    ),
    (
        f"{ROUTE}.request_headers_to_add",
        [{"header": {"key": "host", "value": "a"}}],
        f"{ROUTE}.request_headers_to_add[0].header.key",
    ),
    (
        f"{ROUTE}.request_headers_to_add",
        [{"header": {"key": "x", "value": "50%"}}],
        f"{ROUTE}.request_headers_to_add[0].header.value",
    ),
    (
        f"{ROUTE}.request_headers_to_add",
        [{**HEADER, "append": True, "append_action": "OVERWRITE_IF_EXISTS"}],
        f"{ROUTE}.request_headers_to_add[0]",
    ),
    (f"{HOST}.request_headers_to_remove", [":path"], f"{HOST}.request_headers_to_remove[0]"),
    (f"{HOST}.response_headers_to_remove", [""], f"{HOST}.response_headers_to_remove[0]"),
    (f"{HOST}.request_headers_to_remove", ["Host"], f"{HOST}.request_headers_to_remove[0]"),
    (ROUTE, {"match": {"prefix": "/"}, "direct_response": {"status": 99}}, f"{ROUTE}.direct_response.status"),
    (
        ROUTE,
        {"match": {"prefix": "/"}, "direct_response": {"status": 600}},
        f"{ROUTE}.direct_response.status",
    ),
    (
        ROUTE,
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "a" * 4097}}},
        f"{ROUTE}.direct_response.body",
    ),
    (
        ROUTE,
        {"match": {"prefix": "/"}, "redirect": {"response_code": 7}},
        f"{ROUTE}.redirect.response_code",
    ),
    (
        ROUTE,
        {"match": {"prefix": "/"}, "redirect": {"regex_rewrite": {"pattern": {"regex": "*"}}}},
        f"{ROUTE}.redirect.regex_rewrite.pattern.regex",
    ),
    # Clusters and endpoints.
    (f"{CLUSTER}.name", "", ""),
    ("static_resources.clusters[2]", static_cluster("a"), "static_resources.clusters[2].name"),
    (f"{CLUSTER}.connect_timeout", "0s", ""),
    (f"{CLUSTER}.lb_policy", 42, ""),
    (f"{CLUSTER}.lb_policy", "CLUSTER_PROVIDED", ""),
    (f"{CLUSTER}.type", "ORIGINAL_DST", f"{CLUSTER}.load_assignment"),
    (
        "static_resources.clusters[2]",
        {"name": "c", "type": "ORIGINAL_DST"},
        "static_resources.clusters[2].lb_policy",
    ),
    (
        "static_resources.clusters[2]",
        {"name": "c", "type": "EDS"},
        "static_resources.clusters[2].eds_cluster_config",
    ),
    (
        "static_resources.clusters[2]",
        {"name": "c", "type": "LOGICAL_DNS", "load_assignment": load_assignment("c", 1, 2, host="localhost")},
        "static_resources.clusters[2].load_assignment.endpoints",
    ),
    (
        f"{ENDPOINT}.endpoint.address",
        address(1, "example.com"),
        f"{ENDPOINT}.endpoint.address.socket_address.address",
    ),
    (f"{ENDPOINT}.load_balancing_weight", 0, ""),
    (f"{CLUSTER}.load_assignment.endpoints[0].priority", 129, ""),
    (f"{CLUSTER}.load_assignment.cluster_name", "", ""),
    (f"{CLUSTER}.load_assignment.policy.overprovisioning_factor", 0, ""),
    (
        f"{CLUSTER}.circuit_breakers.thresholds",
        [{"priority": 5}],
        f"{CLUSTER}.circuit_breakers.thresholds[0].priority",
    ),
    (f"{OUTLIER}.max_ejection_percent", 101, ""),
    (f"{OUTLIER}.interval", "0s", ""),
    (f"{OUTLIER}.max_ejection_time", "29s", ""),
    (f"{OUTLIER}.enforcing_consecutive_5xx", 200, ""),
    (f"{CLUSTER}.least_request_lb_config.choice_count", 1, ""),
    (f"{CLUSTER}.dns_refresh_rate", "0s", ""),
    (f"{CLUSTER}.dns_jitter", "-1s", ""),
    (f"{CLUSTER}.dns_failure_refresh_rate", {"max_interval": "1s"}, ""),
    (
        f"{NAMED}.dns_failure_refresh_rate",
        {"base_interval": "2s", "max_interval": "1s"},
        f"{NAMED}.dns_failure_refresh_rate.max_interval",
    ),
    (f"{NAMED}.load_assignment.endpoints", [], ""),
    ("typed_dns_resolver_config", {"typed_config": cares()["typed_config"]}, ""),
    (f"{CLUSTER}.common_lb_config.healthy_panic_threshold.value", 101, ""),
    (
        f"{CLUSTER}.typed_extension_protocol_options[{HTTP_OPTIONS}]",
        {"@type": f"{TYPE}/{HTTP_OPTIONS}"},
        f"{CLUSTER}.typed_extension_protocol_options[{HTTP_OPTIONS}]",
    ),
    (
        f"{CLUSTER}.transport_socket",
        upstream_tls(
            validation_context={
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "a"}}]
            }
        ),
        f"{CLUSTER}.transport_socket.typed_config.common_tls_context.validation_context",
    ),
    (
        f"{CLUSTER}.transport_socket",
        upstream_tls(tls_certificates=[{"certificate_chain": {"inline_string": "x"}}]),
        f"{CLUSTER}.transport_socket.typed_config.common_tls_context.tls_certificates[0].private_key",
    ),
    (f"{CLUSTER}.transport_socket_matches", [{"name": ""}], f"{CLUSTER}.transport_socket_matches[0].name"),
    # The bootstrap file.
    ("admin", {"address": address(0, "no")}, "admin.address.socket_address.address"),
    (
        "dynamic_resources.ads_config",
        {
            "api_type": "DELTA_GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "none"}}],
        },
        "dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name",
    ),
    (
        "static_resources.secrets",
        [{"name": "s", "tls_certificate": {"certificate_chain": {"filename": ""}}}],
        "",
    ),
]


# Fields that Envoy accepts although they are mistakes, or would fail only at the first request.
STRICTER: list[tuple[str, object, str]] = [
    (f"{ENDPOINT}.endpoint.hostname", "a.example.com\r\nx-injected: 1", ""),
    (f"{LISTENER}.traffic_direction", 9, ""),
    ("static_resources.listeners[1]", listener("l", tcp_proxy()), "static_resources.listeners[1].name"),
    (
        f"{FORWARD}.regex_rewrite",
        {"pattern": {"regex": "(a)"}, "substitution": r"\2"},
        f"{FORWARD}.regex_rewrite.substitution",
    ),
    (f"{ENDPOINT}.health_status", 55, ""),
    (
        f"{CLUSTER}.transport_socket",
        upstream_tls(
            tls_params={"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_2"}
        ),
        f"{CLUSTER}.transport_socket.typed_config.common_tls_context.tls_params",
    ),
    ("dynamic_resources.lds_config", {"ads": {}, "resource_api_version": "V2"}, ""),
    # Envoy makes no resolver when it only validates.
    ("typed_dns_resolver_config", cares(query_tries=0), ""),
    ("typed_dns_resolver_config", cares(query_timeout_seconds=0), ""),
    ("typed_dns_resolver_config", cares(resolvers=[address(53, "dns.test")]), ""),
]
