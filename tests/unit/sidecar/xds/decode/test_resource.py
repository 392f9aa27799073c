"""Resources from the wire, decoded for the data path, with Envoy's defaults."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import type_urls
from sidecar.config.cluster import (
    CircuitBreakers,
    ClusterConfig,
    Discovery,
    HttpVersion,
    LbPolicy,
    OutlierDetection,
    ServiceMetadata,
    SubsetConfig,
    SubsetFallback,
    SubsetSelector,
)
from sidecar.config.listener import (
    AccessLog,
    FilterChainMatch,
    ForwardClientCert,
    HttpConnectionManager,
    Listener,
    TcpProxy,
)
from sidecar.config.route import (
    AppendAction,
    DirectResponseAction,
    ForwardAction,
    HeaderMatch,
    HeaderValue,
    PathMatchKind,
    RedirectAction,
    RegexRewrite,
    RetryPolicy,
    RouteConfiguration,
    StringMatch,
    StringMatchKind,
    WeightedCluster,
)
from sidecar.config.tls import SanMatch, SanMatchKind, TlsVersion
from sidecar.errors import ConfigError
from sidecar.xds.decode import decode_resource, resource_json
from tests.support.ads_server import packed
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    changed,
    downstream_tls,
    eds_cluster,
    http_connection_manager,
    listener,
    load_assignment,
    rds,
    route_configuration,
    static_cluster,
    tcp_proxy,
    upstream_tls,
)

ROUTE = "virtual_hosts[0].routes[0]"
FORWARD = f"{ROUTE}.route"
MANAGER = "filter_chains[0].filters[0].typed_config"
ALL = frozenset(("static",))


def cluster(document: dict[str, Any], path: str = "alt_stat_name", value: object = "") -> ClusterConfig:
    decoded = decode_resource(
        type_urls.CLUSTER, packed(type_urls.CLUSTER, changed(document, path, value)).value, ALL
    )
    assert isinstance(decoded, ClusterConfig)
    return decoded


def routes(path: str = "metadata", value: object = None) -> RouteConfiguration:
    document = changed(route_configuration(), path, value if value is not None else {})
    decoded = decode_resource(type_urls.ROUTE, packed(type_urls.ROUTE, document).value)
    assert isinstance(decoded, RouteConfiguration)
    return decoded


def forward(path: str, value: object) -> ForwardAction:
    action = routes(f"{FORWARD}.{path}" if path else FORWARD, value).virtual_hosts[0].routes[0].action
    assert isinstance(action, ForwardAction)
    return action


def a_listener(document: dict[str, Any], path: str = "stat_prefix", value: object = "") -> Listener:
    decoded = decode_resource(
        type_urls.LISTENER, packed(type_urls.LISTENER, changed(document, path, value)).value, ALL
    )
    assert isinstance(decoded, Listener)
    return decoded


def manager(path: str, value: object) -> HttpConnectionManager:
    document = listener("l", http_connection_manager(rds=rds("r")))
    chain = a_listener(document, f"{MANAGER}.{path}", value).filter_chains[0]
    assert isinstance(chain.filter, HttpConnectionManager)
    return chain.filter


# Defaults.


def test_the_defaults_of_a_cluster_are_envoys() -> None:
    found = cluster({"name": "c"})
    assert found == ClusterConfig(name="c", discovery=Discovery.STATIC, load_assignment=found.load_assignment)
    assert found.circuit_breakers == CircuitBreakers(
        max_connections=1024, max_pending_requests=1024, max_requests=1024, max_retries=3
    )
    assert cluster(static_cluster("c"), "outlier_detection", {}).outlier_detection == OutlierDetection()


def test_the_share_of_hosts_that_may_be_ejected() -> None:
    share = {"max_ejection_percent": 0, "always_eject_one_host": True, "base_ejection_time": "400s"}
    assert cluster(static_cluster("c"), "outlier_detection", share).outlier_detection == OutlierDetection(
        max_ejection_percent=0, always_eject_one_host=True, base_ejection_time_s=400, max_ejection_time_s=400
    )


def test_the_defaults_of_a_route_are_envoys() -> None:
    action = forward("retry_policy", {"retry_on": "5xx, connect-failure"})
    assert action.timeout_s == 15.0
    assert action.cluster_not_found_status == 503
    assert action.retry_policy == RetryPolicy(retry_on=frozenset(("5xx", "connect-failure")))
    assert action.retry_policy.num_retries == 1


def test_the_defaults_of_a_connection_manager_are_envoys() -> None:
    found = manager("server_name", "")
    assert found == HttpConnectionManager(stat_prefix="http", rds_name="r", http_filters=found.http_filters)


# Listeners.


def test_a_listener_of_istio() -> None:
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    }
    original = {
        "name": "envoy.filters.listener.original_dst",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
    }
    socket = downstream_tls(
        tls_params={"tls_minimum_protocol_version": "TLSv1_3"},
        alpn_protocols=["istio", "http/1.1"],
        tls_certificate_sds_secret_configs=[{"name": "default"}],
        combined_validation_context={
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://a/"}}]
            },
            "validation_context_sds_secret_config": {"name": "ROOTCA"},
        },
    )
    socket["typed_config"]["require_client_certificate"] = True
    document = {
        **listener("virtualInbound", tcp_proxy(), 15006),
        "listener_filters": [original, inspector],
        "traffic_direction": "INBOUND",
        "listener_filters_timeout": "0s",
        "continue_on_listener_filters_timeout": True,
    }
    document["filter_chains"][0] |= {
        "name": "mesh",
        "filter_chain_match": {
            "destination_port": 9080,
            "transport_protocol": "tls",
            "application_protocols": ["istio"],
            "prefix_ranges": [{"address_prefix": "10.1.2.3", "prefix_len": 8}],
            "server_names": ["*.Example.com"],
        },
        "transport_socket": socket,
        "transport_socket_connect_timeout": "15s",
    }
    found = a_listener(document)

    assert found.tls_inspector
    assert found.original_dst_filter
    assert not found.http_inspector
    assert found.listener_filters_timeout_s == 0.0
    assert found.direction.name == "INBOUND"
    (chain,) = found.filter_chains
    assert chain.match == FilterChainMatch(
        destination_port=9080,
        prefix_ranges=("10.0.0.0/8",),
        server_names=("*.example.com",),
        transport_protocol="tls",
        application_protocols=("istio",),
    )
    assert chain.handshake_timeout_s == 15.0
    assert chain.tls is not None
    assert chain.tls.require_client_certificate
    parameters = chain.tls.parameters
    assert (parameters.certificate_secret, parameters.validation_secret) == ("default", "ROOTCA")
    assert parameters.minimum_version is TlsVersion.TLS1_3
    assert parameters.validation is not None
    expected = SanMatch(kind=SanMatchKind.PREFIX, value="spiffe://a/", san_type="URI")
    assert parameters.validation.match_sans == (expected,)


def test_a_weighted_tcp_proxy() -> None:
    document = listener("l", tcp_proxy())
    del document["filter_chains"][0]["filters"][0]["typed_config"]["cluster"]
    weighted = {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]}
    chain = a_listener(document, f"{MANAGER}.weighted_clusters", weighted).filter_chains[0]
    assert isinstance(chain.filter, TcpProxy)
    assert chain.filter.clusters == (WeightedCluster(name="a", weight=1), WeightedCluster(name="b", weight=3))


def test_client_certificates_upgrades_and_limits() -> None:
    assert manager("forward_client_cert_details", "APPEND_FORWARD").forward_client_cert is (
        ForwardClientCert.APPEND_FORWARD
    )
    details = manager("set_current_client_cert_details", {"subject": True, "dns": True, "uri": True})
    assert details.client_cert_details == {"Subject", "DNS", "URI"}
    upgrades = [{"upgrade_type": "WebSocket"}, {"upgrade_type": "CONNECT", "enabled": False}]
    assert manager("upgrade_configs", upgrades).upgrades == {"websocket"}
    assert manager("max_request_headers_kb", 16).max_request_headers_bytes == 16 * 1024
    assert manager("stream_idle_timeout", "0s").stream_idle_timeout_s == 0.0
    assert manager("common_http_protocol_options", {"idle_timeout": "1.5s"}).idle_timeout_s == 1.5
    assert manager("rds.config_source.initial_fetch_timeout", "0s").rds_initial_fetch_timeout_s == 0.0


@pytest.mark.parametrize(
    ("type_name", "config", "expected"),
    [
        ("file.v3.FileAccessLog", {"path": "/x"}, AccessLog(path="/x")),
        ("file.v3.FileAccessLog", {"path": "/x", "format": "%A%"}, AccessLog(path="/x", format="%A%")),
        ("stream.v3.StdoutAccessLog", {}, AccessLog(path="/dev/stdout")),
        (
            "stream.v3.StderrAccessLog",
            {"log_format": {"json_format": {"a": "%B%"}}},
            AccessLog(path="/dev/stderr", format={"a": "%B%"}),
        ),
        (
            "file.v3.FileAccessLog",
            {"path": "/x", "log_format": {"text_format_source": {"inline_string": "t"}}},
            AccessLog(path="/x", format="t"),
        ),
        (
            "file.v3.FileAccessLog",
            {"path": "/x", "typed_json_format": {"b": {"c": [1, 2.5, True, None]}, "a": "%B%"}},
            AccessLog(path="/x", format={"a": "%B%", "b": {"c": (1, 2.5, True, None)}}),
        ),
        (
            "stream.v3.StdoutAccessLog",
            {"log_format": {"text_format": "t", "omit_empty_values": True}},
            AccessLog(path="/dev/stdout", format="t", omit_empty_values=True),
        ),
    ],
)
def test_access_logs(type_name: str, config: dict[str, Any], expected: AccessLog) -> None:
    log = {
        "name": "log",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.access_loggers.{type_name}", **config},
    }
    assert manager("access_log", [log]).access_logs == (expected,)


def test_the_response_flags_of_an_access_log() -> None:
    file = {"@type": f"{TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/x"}
    log = {"name": "log", "filter": {"response_flag_filter": {"flags": ["NR"]}}, "typed_config": file}
    expected = AccessLog(path="/x", response_flags=frozenset({"NR"}))
    assert manager("access_log", [log]).access_logs == (expected,)
    for filter_ in ({}, {"response_flag_filter": {"flags": ["NOPE"]}}, {"not_health_check_filter": {}}):
        with pytest.raises(ConfigError, match=r"access_log\[0\].filter"):
            manager("access_log", [{**log, "filter": filter_}])


def test_a_filter_that_may_be_left_out_is() -> None:
    fault = {"@type": f"{TYPE}/google.protobuf.Struct", "value": {}}
    filters = [{"name": "fault", "is_optional": True, "typed_config": fault}]
    document = listener("l", http_connection_manager(rds=rds("r")))
    typed = document["filter_chains"][0]["filters"][0]["typed_config"]
    typed["http_filters"] = filters + typed["http_filters"]
    chain = a_listener(document).filter_chains[0]
    assert isinstance(chain.filter, HttpConnectionManager)
    assert len(chain.filter.http_filters) == 1
    filters[0]["is_optional"] = False
    with pytest.raises(ConfigError) as caught:
        a_listener(document)
    assert caught.value.path == f"{MANAGER}.http_filters[0].typed_config"
    assert "type google.protobuf.Struct is not supported here" in caught.value.reason


# Routes.


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ({}, StringMatch(kind=StringMatchKind.PRESENT)),
        ({"exact_match": "v"}, StringMatch(kind=StringMatchKind.EXACT, value="v")),
        ({"contains_match": "v"}, StringMatch(kind=StringMatchKind.CONTAINS, value="v")),
        ({"safe_regex_match": {"regex": "v.*"}}, StringMatch(kind=StringMatchKind.REGEX, value="v.*")),
        (
            {"range_match": {"start": -1, "end": 9}},
            StringMatch(kind=StringMatchKind.RANGE, range_start=-1, range_end=9),
        ),
        (
            {"string_match": {"suffix": "v", "ignore_case": True}},
            StringMatch(kind=StringMatchKind.SUFFIX, value="v", ignore_case=True),
        ),
    ],
)
def test_header_matchers(matcher: dict[str, Any], expected: StringMatch) -> None:
    found = routes(f"{ROUTE}.match.headers", [{"name": "X-A", **matcher}])
    assert found.virtual_hosts[0].routes[0].match.headers == (HeaderMatch(name="x-a", match=expected),)


def test_present_match_false_is_an_inverted_match() -> None:
    matchers = [
        {"name": "a", "present_match": False},
        {"name": "b", "present_match": False, "invert_match": True},
        {"name": "c", "present_match": True, "invert_match": True},
    ]
    found = routes(f"{ROUTE}.match.headers", matchers).virtual_hosts[0].routes[0].match.headers
    assert [match.invert for match in found] == [True, False, True]


@pytest.mark.parametrize(
    ("match", "kind", "path"),
    [
        ({"prefix": "/a"}, PathMatchKind.PREFIX, "/a"),
        ({"path": "/a"}, PathMatchKind.EXACT, "/a"),
        ({"safe_regex": {"regex": "/a.*"}}, PathMatchKind.REGEX, "/a.*"),
        ({"path_separated_prefix": "/a"}, PathMatchKind.PATH_SEPARATED_PREFIX, "/a"),
        ({"connect_matcher": {}}, PathMatchKind.CONNECT, ""),
    ],
)
def test_path_matchers(match: dict[str, Any], kind: PathMatchKind, path: str) -> None:
    found = routes(f"{ROUTE}.match", match).virtual_hosts[0].routes[0].match
    assert (found.path_kind, found.path) == (kind, path)


def test_header_mutations() -> None:
    options = [
        {"header": {"key": "X-A", "value": "100%%"}},
        {"header": {"key": "b", "value": "2"}, "append": False},
        {"header": {"key": "c", "value": "3"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "empty", "value": ""}},
        {"header": {"key": "kept", "value": ""}, "keep_empty_value": True},
    ]
    headers = routes(f"{ROUTE}.request_headers_to_add", options).virtual_hosts[0].routes[0].headers
    assert headers.request_set == (
        HeaderValue(name=b"x-a", value=b"100%"),
        HeaderValue(name=b"b", value=b"2", action=AppendAction.OVERWRITE_IF_EXISTS_OR_ADD),
        HeaderValue(name=b"c", value=b"3", action=AppendAction.ADD_IF_ABSENT),
        HeaderValue(name=b"kept", value=b""),
    )
    assert routes("response_headers_to_remove", ["X-B"]).headers.response_remove == (b"x-b",)


def test_a_command_operator_in_a_header_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="command operator in '%REQ") as caught:
        routes(f"{ROUTE}.request_headers_to_add", [{"header": {"key": "a", "value": "x %REQ(b)%"}}])
    assert caught.value.path == f"{ROUTE}.request_headers_to_add[0].header.value"


def test_forwarding() -> None:
    weighted = {
        "weighted_clusters": {
            "clusters": [
                {"name": "a", "weight": 90},
                {"name": "b", "weight": 10, "host_rewrite_literal": "h"},
            ]
        }
    }
    assert forward("", weighted).clusters == (
        WeightedCluster(name="a", weight=90),
        WeightedCluster(name="b", weight=10, host_rewrite="h"),
    )
    assert forward("", {"cluster_header": "X-C"}).cluster_header == "x-c"
    assert forward("timeout", "0s").timeout_s == 0.0
    assert forward("idle_timeout", "0s").idle_timeout_s == 0.0
    rewrite = {"pattern": {"regex": "^/(a)"}, "substitution": r"/\1\\"}
    assert forward("regex_rewrite", rewrite).regex_rewrite == RegexRewrite(
        pattern="^/(a)", substitution=r"/\1\\"
    )
    connect = forward("upgrade_configs", [{"upgrade_type": "CONNECT", "connect_config": {}}])
    assert connect.terminate_connect
    assert connect.upgrades == {"connect": True}
    subset = forward("metadata_match", {"filter_metadata": {"envoy.lb": {"v": "1", "n": 2, "b": True}}})
    assert subset.metadata_match == {"v": "1", "n": "2", "b": "true"}


def test_retries() -> None:
    predicate = f"{TYPE}/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    policy = {
        "retry_on": "gateway-error,retriable-status-codes",
        "num_retries": 2,
        "per_try_timeout": "0.5s",
        "retriable_status_codes": [503],
        "retry_back_off": {"base_interval": "0.1s"},
        "retry_host_predicate": [{"name": "previous", "typed_config": {"@type": predicate}}],
        "host_selection_retry_max_attempts": 5,
    }
    assert forward("retry_policy", policy).retry_policy == RetryPolicy(
        retry_on=frozenset(("gateway-error", "retriable-status-codes")),
        num_retries=2,
        per_try_timeout_s=0.5,
        retriable_status_codes=frozenset((503,)),
        back_off_base_interval_s=0.1,
        back_off_max_interval_s=1.0,
        previous_hosts=True,
        host_selection_max_attempts=5,
    )
    with pytest.raises(ConfigError, match="5XX is not supported"):
        forward("retry_policy", {"retry_on": "5XX"})


def test_redirects_and_direct_responses() -> None:
    match = {"prefix": "/"}
    redirect = {"https_redirect": True, "port_redirect": 8443, "response_code": "PERMANENT_REDIRECT"}
    action = routes(ROUTE, {"match": match, "redirect": redirect}).virtual_hosts[0].routes[0].action
    assert action == RedirectAction(status=308, https_redirect=True, port=8443)
    response = {"status": 418, "body": {"inline_string": "é"}}
    action = routes(ROUTE, {"match": match, "direct_response": response}).virtual_hosts[0].routes[0].action
    assert action == DirectResponseAction(status=418, body="é".encode())


# Clusters and endpoints.


@pytest.mark.parametrize("sni", [".a", "a" * 64, "a\0b"])
def test_an_sni_that_is_not_a_host_name_is_refused(sni: str) -> None:
    tls = upstream_tls()
    tls["typed_config"]["sni"] = sni
    with pytest.raises(ConfigError, match=r"sni.*is not a host name"):
        cluster(eds_cluster("a", transport_socket=tls))


def test_an_eds_cluster_of_istio() -> None:
    tls = upstream_tls(tls_certificate_sds_secret_configs=[{"name": "default"}])
    tls["typed_config"]["sni"] = "outbound_.9080_._.a"
    raw = {"@type": f"{TYPE}/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}
    document = eds_cluster(
        "outbound|9080||a",
        lb_policy="LEAST_REQUEST",
        transport_socket_matches=[
            {"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": tls},
            {"name": "tlsMode-disabled", "transport_socket": {"name": "raw", "typed_config": raw}},
        ],
        typed_extension_protocol_options={
            HTTP_OPTIONS: {
                "@type": f"{TYPE}/{HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": "60s", "max_requests_per_connection": 9},
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        circuit_breakers={
            "thresholds": [
                {"priority": "HIGH", "max_connections": 1},
                {"max_connections": 7, "retry_budget": {"budget_percent": {"value": 25}}},
            ]
        },
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        metadata={
            "filter_metadata": {"istio": {"services": [{"host": "a.b", "name": "a", "namespace": "b"}]}}
        },
    )
    found = cluster(document)

    assert found.eds_service_name == "outbound|9080||a"
    assert found.lb_policy is LbPolicy.LEAST_REQUEST
    istio, disabled = found.transport_socket_matches
    assert istio.match == {"tlsMode": "istio"}
    assert istio.tls is not None
    assert istio.tls.sni == "outbound_.9080_._.a"
    assert disabled.tls is None
    assert found.http_version is HttpVersion.HTTP2
    assert (found.idle_timeout_s, found.max_requests_per_connection) == (60.0, 9)
    assert found.circuit_breakers.max_connections == 7
    assert found.circuit_breakers.retry_budget is not None
    assert found.circuit_breakers.retry_budget.budget_percent == 25.0
    assert found.healthy_panic_threshold_percent == 0.0
    assert found.service == ServiceMetadata(host="a.b", name="a", namespace="b")


def test_the_longest_ejection_is_at_least_the_base_ejection_time() -> None:
    found = cluster(static_cluster("c"), "outlier_detection", {"base_ejection_time": "600s"})
    assert found.outlier_detection is not None
    assert found.outlier_detection.max_ejection_time_s == 600.0
    with pytest.raises(ConfigError, match="enforcing_success_rate: statistical ejection"):
        cluster(static_cluster("c"), "outlier_detection", {"enforcing_success_rate": 100})


def test_subsets_and_names() -> None:
    subsets = {
        "fallback_policy": "DEFAULT_SUBSET",
        "default_subset": {"v": "1"},
        "subset_selectors": [{"keys": ["v", "w"]}],
    }
    assert cluster(static_cluster("c"), "lb_subset_config", subsets).subsets == SubsetConfig(
        selectors=(SubsetSelector(keys=frozenset(("v", "w"))),),
        fallback=SubsetFallback.DEFAULT_SUBSET,
        default_subset={"v": "1"},
    )
    by_name = {
        "name": "c",
        "type": "STRICT_DNS",
        "load_assignment": load_assignment("c", 80, host="a.example"),
    }
    found = cluster(by_name)
    assert found.load_assignment is not None
    assert found.load_assignment.endpoints[0].address.host == "a.example"


# Fields that Envoy supports, and that are refused here.


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("lb_policy", "RING_HASH", "RING_HASH is not supported"),
        ("health_checks", [{"timeout": "1s"}], "is not supported"),
        ("load_balancing_policy", {}, "is not supported"),
        ("common_lb_config.locality_weighted_lb_config", {}, "is not supported"),
        ("preconnect_policy", {}, "is not supported"),
        ("load_assignment.endpoints[0].lb_endpoints[0].endpoint.address", {"pipe": {"path": "/x"}}, ""),
        ("upstream_bind_config.source_address", {"address": "1.2.3.4", "port_value": 9}, "only 0"),
    ],
)
def test_a_field_of_a_cluster_that_is_not_supported_is_refused(path: str, value: object, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster(static_cluster("c"), path, value)
    assert caught.value.path.startswith(path)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{FORWARD}.request_mirror_policies", [{"cluster": "x"}]),
        (f"{FORWARD}.priority", "HIGH"),
        (f"{FORWARD}.max_stream_duration.max_stream_duration", "1s"),
        (f"{ROUTE}.typed_per_filter_config", {"x": {"@type": f"{TYPE}/google.protobuf.Struct", "value": {}}}),
        (f"{ROUTE}.match.runtime_fraction", {"default_value": {"numerator": 1}}),
        ("virtual_hosts[0].require_tls", "ALL"),
        ("vhds", {"config_source": {"ads": {}}}),
    ],
)
def test_a_field_of_a_route_that_is_not_supported_is_refused(path: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        routes(path, value)
    assert caught.value.path.startswith(path)
    assert "support" in caught.value.reason


def test_a_regular_expression_that_is_too_large_is_refused() -> None:
    pattern = "|".join(f"[a-z]{{0,300}}{number}" for number in range(230))
    with pytest.raises(ConfigError, match="too large") as caught:
        routes(f"{ROUTE}.match", {"safe_regex": {"regex": pattern}})
    assert caught.value.path == f"{ROUTE}.match.safe_regex.regex"


# What nobody may send.


@pytest.mark.parametrize("type_url", type_urls.PUSH_ORDER)
@settings(max_examples=150)
@given(body=st.binary(max_size=200))
def test_any_bytes_give_a_config_error_or_a_resource(type_url: str, body: bytes) -> None:
    with suppress(ConfigError):
        decode_resource(type_url, body)


VALID = [
    packed(type_urls.CLUSTER, static_cluster("c", 1, 2)),
    packed(type_urls.ROUTE, route_configuration()),
    packed(type_urls.ENDPOINT, load_assignment("c", 1, 2)),
    packed(type_urls.LISTENER, listener("l", http_connection_manager(route_config=route_configuration()))),
]


@settings(max_examples=300)
@given(st.sampled_from(VALID), st.data())
def test_damaged_resources_give_a_config_error_or_a_resource(resource: Any, data: st.DataObject) -> None:
    body = bytearray(resource.value)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    with suppress(ConfigError):
        decode_resource(resource.type_url, bytes(body))


def test_private_keys_are_redacted_everywhere() -> None:
    certificate = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_bytes": "S0VZ"}}
    socket = downstream_tls(tls_certificates=[certificate])
    document = listener("l", tcp_proxy())
    document["filter_chains"][0]["transport_socket"] = socket
    shown = json.dumps(resource_json(type_urls.LISTENER, packed(type_urls.LISTENER, document).value))
    assert "CHAIN" in shown
    assert "S0VZ" not in shown
    assert "W3JlZGFjdGVkXQ==" in shown  # [redacted], in protobuf's JSON form of bytes
