from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.fraction import Fraction
from sidecar.config.route import (
    AppendAction,
    DirectResponseAction,
    ForwardAction,
    HeaderMatch,
    HeaderValue,
    MaxStreamDuration,
    PathMatchKind,
    RedirectAction,
    RegexRewrite,
    RetryPolicy,
    StringMatch,
    StringMatchKind,
    WeightedCluster,
)
from sidecar.config.tracing import Decorator, LiteralTag, RouteTracing, Sampling
from sidecar.errors import ConfigError
from tests.support.decoded import FORWARD, ROUTE, action_with, routes_with
from tests.support.envoy_config import TYPE, changed, route_configuration
from tests.support.http_filters import decoded_routes

HOST = "virtual_hosts[0]"


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (f"{HOST}.domains", ["a.test", "A.test"], f"{HOST}.domains[1]"),
        ("virtual_hosts[1]", {"name": "other", "domains": ["a", "*"]}, "virtual_hosts[1].domains[1]"),
        (
            f"{ROUTE}.route",
            {"weighted_clusters": {"clusters": [{"name": "a", "weight": 0}]}},
            f"{ROUTE}.route.weighted_clusters.clusters",
        ),
        (f"{ROUTE}.match", {"safe_regex": {"regex": "("}}, f"{ROUTE}.match.safe_regex.regex"),
        (
            f"{ROUTE}.match.headers",
            [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}],
            f"{ROUTE}.match.headers[0].string_match.safe_regex.regex",
        ),
        (
            f"{ROUTE}.match.query_parameters",
            [{"name": "x", "string_match": {"safe_regex": {"regex": "("}}}],
            f"{ROUTE}.match.query_parameters[0].string_match.safe_regex.regex",
        ),
        (
            f"{ROUTE}.route.regex_rewrite",
            {"pattern": {"regex": "("}},
            f"{ROUTE}.route.regex_rewrite.pattern.regex",
        ),
        *(
            (
                f"{ROUTE}.route.regex_rewrite",
                {"pattern": {"regex": "a"}, "substitution": substitution},
                f"{ROUTE}.route.regex_rewrite.substitution",
            )
            for substitution in (r"\1", r"\x", "\\", r"\\\²")
        ),
    ],
)
def test_a_route_that_the_router_cannot_compile_is_refused_by_its_path(
    path: str, value: object, where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        decoded_routes(changed(route_configuration(), path, value))
    assert caught.value.path == where


def test_the_defaults_of_a_route_are_envoys() -> None:
    action = action_with("retry_policy", {"retry_on": "5xx, connect-failure"})
    assert action.timeout_s == 15.0
    assert action.cluster_not_found_status == 503
    assert action.retry_policy == RetryPolicy(retry_on=frozenset(("5xx", "connect-failure")))
    assert action.retry_policy.num_retries == 1


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
    found = routes_with(f"{ROUTE}.match.headers", [{"name": "X-A", **matcher}])
    assert found.virtual_hosts[0].routes[0].match.headers == (HeaderMatch(name="x-a", match=expected),)


def test_present_match_false_is_an_inverted_match() -> None:
    matchers = [
        {"name": "a", "present_match": False},
        {"name": "b", "present_match": False, "invert_match": True},
        {"name": "c", "present_match": True, "invert_match": True},
    ]
    found = routes_with(f"{ROUTE}.match.headers", matchers).virtual_hosts[0].routes[0].match.headers
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
    found = routes_with(f"{ROUTE}.match", match).virtual_hosts[0].routes[0].match
    assert (found.path_kind, found.path) == (kind, path)


def test_header_mutations() -> None:
    options = [
        {"header": {"key": "X-A", "value": "100%%"}},
        {"header": {"key": "b", "value": "2"}, "append": False},
        {"header": {"key": "c", "value": "3"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "empty", "value": ""}},
        {"header": {"key": "kept", "value": ""}, "keep_empty_value": True},
    ]
    headers = routes_with(f"{ROUTE}.request_headers_to_add", options).virtual_hosts[0].routes[0].headers
    assert headers.request_set == (
        HeaderValue(name=b"x-a", value=b"100%"),
        HeaderValue(name=b"b", value=b"2", action=AppendAction.OVERWRITE_IF_EXISTS_OR_ADD),
        HeaderValue(name=b"c", value=b"3", action=AppendAction.ADD_IF_ABSENT),
        HeaderValue(name=b"kept", value=b""),
    )
    assert routes_with("response_headers_to_remove", ["X-B"]).headers.response_remove == (b"x-b",)


def test_a_command_operator_in_a_header_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="command operator in '%REQ") as caught:
        routes_with(f"{ROUTE}.request_headers_to_add", [{"header": {"key": "a", "value": "x %REQ(b)%"}}])
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
    assert action_with("", weighted).clusters == (
        WeightedCluster(name="a", weight=90),
        WeightedCluster(name="b", weight=10, host_rewrite="h"),
    )
    assert action_with("", {"cluster_header": "X-C"}).cluster_header == "x-c"
    assert action_with("timeout", "0s").timeout_s == 0.0
    assert action_with("idle_timeout", "0s").idle_timeout_s == 0.0
    rewrite = {"pattern": {"regex": "^/(a)"}, "substitution": r"/\1\\"}
    assert action_with("regex_rewrite", rewrite).regex_rewrite == RegexRewrite(
        pattern="^/(a)", substitution=r"/\1\\"
    )
    connect = action_with("upgrade_configs", [{"upgrade_type": "CONNECT", "connect_config": {}}])
    assert connect.terminate_connect
    assert connect.upgrades == {"connect": True}
    subset = action_with("metadata_match", {"filter_metadata": {"envoy.lb": {"v": "1", "n": 2, "b": True}}})
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
    assert action_with("retry_policy", policy).retry_policy == RetryPolicy(
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
        action_with("retry_policy", {"retry_on": "5XX"})


def test_redirects_and_direct_responses() -> None:
    match = {"prefix": "/"}
    redirect = {"https_redirect": True, "port_redirect": 8443, "response_code": "PERMANENT_REDIRECT"}
    action = routes_with(ROUTE, {"match": match, "redirect": redirect}).virtual_hosts[0].routes[0].action
    assert action == RedirectAction(status=308, https_redirect=True, port=8443)
    response = {"status": 418, "body": {"inline_string": "é"}}
    action = (
        routes_with(ROUTE, {"match": match, "direct_response": response}).virtual_hosts[0].routes[0].action
    )
    assert action == DirectResponseAction(status=418, body="é".encode())


def test_the_time_limits_of_a_grpc_call() -> None:
    limits = {"max_stream_duration": "0s", "grpc_timeout_header_max": "2s"}
    action = routes_with(f"{FORWARD}.max_stream_duration", limits).virtual_hosts[0].routes[0].action
    assert isinstance(action, ForwardAction)
    assert action.max_stream_duration == MaxStreamDuration(limit_s=0.0, grpc_timeout_header_max_s=2.0)
    assert action.max_grpc_timeout_s is None
    action = routes_with(f"{FORWARD}.max_grpc_timeout", "0s").virtual_hosts[0].routes[0].action
    assert isinstance(action, ForwardAction)
    assert (action.max_grpc_timeout_s, action.max_stream_duration) == (0.0, None)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{FORWARD}.request_mirror_policies", [{"cluster": "x"}]),
        (f"{FORWARD}.priority", "HIGH"),
        (f"{ROUTE}.typed_per_filter_config", {"x": {"@type": f"{TYPE}/google.protobuf.Struct", "value": {}}}),
        (f"{ROUTE}.match.runtime_fraction", {"default_value": {"numerator": 1}}),
        ("virtual_hosts[0].require_tls", "ALL"),
        ("vhds", {"config_source": {"ads": {}}}),
    ],
)
def test_a_field_of_a_route_that_is_not_supported_is_refused(path: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        routes_with(path, value)
    assert caught.value.path.startswith(path)
    assert "support" in caught.value.reason


def test_a_regular_expression_that_is_too_large_is_refused() -> None:
    pattern = "|".join(f"[a-z]{{0,300}}{number}" for number in range(230))
    with pytest.raises(ConfigError, match="too large") as caught:
        routes_with(f"{ROUTE}.match", {"safe_regex": {"regex": pattern}})
    assert caught.value.path == f"{ROUTE}.match.safe_regex.regex"


def test_the_decorator_and_the_tracing_of_a_route_are_kept() -> None:
    tags = [{"tag": "a", "literal": {"value": "b"}}]
    tracing = {"random_sampling": {"numerator": 5, "denominator": "MILLION"}, "custom_tags": tags}
    traced = routes_with(f"{ROUTE}.tracing", tracing).virtual_hosts[0].routes[0].tracing
    sampling = Sampling(random=Fraction(numerator=5, denominator=1_000_000))
    assert traced == RouteTracing(sampling=sampling, custom_tags=(LiteralTag(tag="a", value="b"),))
    decorated = routes_with(f"{ROUTE}.decorator", {"operation": "a", "propagate": False})
    assert decorated.virtual_hosts[0].routes[0].decorator == Decorator(operation="a", propagate=False)
    assert routes_with(f"{ROUTE}.decorator", {"operation": "a"}).virtual_hosts[0].routes[0].decorator == (
        Decorator(operation="a")
    )


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("decorator", {}, "decorator.operation"),
        ("decorator", {"operation": "a\r\nb: c"}, "decorator.operation"),
        ("tracing", {"random_sampling": {"denominator": 7}}, "tracing.random_sampling.denominator"),
        ("tracing", {"custom_tags": [{"tag": "a"}]}, "tracing.custom_tags[0]"),
    ],
)
def test_an_invalid_decorator_or_tracing_is_refused_by_its_path(
    path: str, value: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        routes_with(f"{ROUTE}.{path}", value)
    assert caught.value.path == f"{ROUTE}.{where}"
