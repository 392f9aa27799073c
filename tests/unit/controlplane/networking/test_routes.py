from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.config.route.v3.route_components_pb2 import RedirectAction, RetryPolicy, Route
from envoy.extensions.filters.http.cors.v3.cors_pb2 import CorsPolicy
from envoy.extensions.filters.http.fault.v3.fault_pb2 import HTTPFault
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from controlplane.networking import build_routes
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import mesh, port, service, sidecar_proxy

MessageT = TypeVar("MessageT", bound=Message)

REVIEWS = "reviews.default.svc.cluster.local"
RATINGS = "ratings.default.svc.cluster.local"
TO_REVIEWS = [{"destination": {"host": REVIEWS}}]


def routes(*http: dict[str, Any], number: int = 9080, **mesh_config: Any) -> list[Route]:
    virtual_services = {"reviews": {"hosts": [REVIEWS], "http": http}} if http else None
    snapshot = mesh(
        (service("reviews", port(9080), port(9081, name="http-b")), []),
        (service("ratings", port(8080)), []),
        virtual_services=virtual_services,
        **mesh_config,
    )
    config = build_routes(BuildCache(), snapshot, sidecar_proxy(), [str(number)])[str(number)]
    (host,) = (host for host in config.virtual_hosts if host.name == f"{REVIEWS}:{number}")
    return list(host.routes)


def route(**http: Any) -> Route:
    (found,) = routes({"route": TO_REVIEWS, **http} if "redirect" not in http else http)
    return found


def test_a_host_without_virtual_service_has_a_default_route() -> None:
    (found,) = routes()
    assert found.name == "default"
    assert found.route.cluster == f"outbound|9080||{REVIEWS}"
    assert found.match.prefix == "/"


def test_a_request_may_take_as_long_as_it_needs() -> None:
    for found in (routes()[0], route()):
        assert found.route.HasField("timeout")
        assert found.route.timeout.ToTimedelta() == timedelta(0)


def test_a_timeout_is_the_routes() -> None:
    assert route(timeout="1.5s").route.timeout.ToTimedelta() == timedelta(seconds=1.5)


def test_matches_are_alternatives_in_their_order() -> None:
    found = routes(
        {
            "name": "r",
            "match": [{"name": "m", "uri": {"exact": "/a"}}, {"uri": {"exact": "/b"}}],
            "route": TO_REVIEWS,
        },
        {"route": TO_REVIEWS},
    )
    assert [(each.name, each.match.path) for each in found] == [("r.m", "/a"), ("r", "/b"), ("", "")]


def test_a_match_for_a_port_counts_there_only() -> None:
    http = {"match": [{"port": 9081}], "route": TO_REVIEWS}, {"name": "rest", "route": TO_REVIEWS}
    assert [each.name for each in routes(*http)] == ["rest"]
    assert [each.name for each in routes(*http, number=9081)] == ["", "rest"]


def test_a_match_for_gateways_does_not_match_in_a_sidecar() -> None:
    found = routes(
        {"match": [{"uri": {"exact": "/a"}, "gateways": ["public"]}], "route": TO_REVIEWS},
        {
            "match": [
                {"uri": {"exact": "/b"}, "gateways": ["public"]},
                {"uri": {"exact": "/c"}, "gateways": ["public", "mesh"]},
                {"uri": {"exact": "/d"}},
            ],
            "route": TO_REVIEWS,
        },
    )
    assert [each.match.path for each in found] == ["/c", "/d"]


def test_a_destination_may_name_subset_and_port() -> None:
    destination = {"host": REVIEWS, "subset": "v2", "port": {"number": 9081}}
    assert route(route=[{"destination": destination}]).route.cluster == f"outbound|9081|v2|{REVIEWS}"


def test_a_destination_of_one_port_needs_not_name_it() -> None:
    found = route(route=[{"destination": {"host": RATINGS}}])
    assert found.route.cluster == f"outbound|8080||{RATINGS}"


def test_weights() -> None:
    found = route(
        route=[
            {"destination": {"host": REVIEWS, "subset": "v1"}, "weight": 90},
            {"destination": {"host": REVIEWS, "subset": "v2"}, "weight": 10},
            {"destination": {"host": REVIEWS, "subset": "v3"}, "weight": 0},
        ]
    )
    weighted = [(each.name, each.weight.value) for each in found.route.weighted_clusters.clusters]
    assert weighted == [(f"outbound|9080|v1|{REVIEWS}", 90), (f"outbound|9080|v2|{REVIEWS}", 10)]


def options(headers: Any) -> list[tuple[str, str, int]]:
    return [(each.header.key, each.header.value, each.append_action) for each in headers]


def test_header_operations_of_a_route() -> None:
    operations = {"set": {"a": "1"}, "add": {"b": "2"}, "remove": ["c"]}
    found = route(headers={"request": operations, "response": operations})
    expected = [
        ("a", "1", HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
        ("b", "2", HeaderValueOption.APPEND_IF_EXISTS_OR_ADD),
    ]
    assert options(found.request_headers_to_add) == expected
    assert options(found.response_headers_to_add) == expected
    assert list(found.request_headers_to_remove) == ["c"]
    assert list(found.response_headers_to_remove) == ["c"]


def test_headers_that_proxies_set_are_not_in_routes() -> None:
    operations = {
        "set": {"Content-Length": "1"},
        "add": {"connection": "x", "te": "gzip"},
        "remove": ["upgrade"],
    }
    found = route(headers={"request": operations, "response": operations})
    assert not found.request_headers_to_add
    assert not found.response_headers_to_add
    assert not found.request_headers_to_remove
    assert not found.response_headers_to_remove


def test_header_operations_of_a_destination() -> None:
    found = route(
        route=[
            {
                "destination": {"host": REVIEWS},
                "headers": {
                    "request": {"set": {"a": "1", "host": "b.example.com"}},
                    "response": {"remove": ["c"]},
                },
            }
        ]
    )
    (weighted,) = found.route.weighted_clusters.clusters
    assert options(weighted.request_headers_to_add) == [
        ("a", "1", HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD)
    ]
    assert list(weighted.response_headers_to_remove) == ["c"]
    assert weighted.host_rewrite_literal == "b.example.com"


@pytest.mark.parametrize("operation", ["set", "add"])
def test_setting_the_host_header_rewrites_the_authority(operation: str) -> None:
    found = route(headers={"request": {operation: {"host": "b.example.com"}}})
    assert found.route.host_rewrite_literal == "b.example.com"
    assert not found.request_headers_to_add


def test_rewrite() -> None:
    found = route(match=[{"uri": {"prefix": "/a"}}], rewrite={"uri": "/b", "authority": "c.example.com"})
    assert found.route.prefix_rewrite == "/b"
    assert found.route.host_rewrite_literal == "c.example.com"


def test_regex_rewrite() -> None:
    found = route(rewrite={"uriRegexRewrite": {"match": "^/a/(.*)$", "rewrite": r"/b/\1"}})
    assert found.route.regex_rewrite.pattern.regex == "^/a/(.*)$"
    assert found.route.regex_rewrite.substitution == r"/b/\1"


def test_redirect() -> None:
    found = route(
        redirect={
            "uri": "/b",
            "authority": "c.example.com",
            "port": 8443,
            "scheme": "https",
            "redirectCode": 308,
        }
    ).redirect
    assert found.path_redirect == "/b"
    assert found.host_redirect == "c.example.com"
    assert found.port_redirect == 8443
    assert found.scheme_redirect == "https"
    assert found.response_code == RedirectAction.PERMANENT_REDIRECT


def test_the_default_code_of_a_redirect_is_301() -> None:
    found = route(redirect={"authority": "c.example.com"}).redirect
    assert found.response_code == RedirectAction.MOVED_PERMANENTLY
    assert found.WhichOneof("path_rewrite_specifier") is None
    assert found.WhichOneof("scheme_rewrite_specifier") is None


@pytest.mark.parametrize(("derive", "expected"), [("FROM_REQUEST_PORT", 9080), ("FROM_PROTOCOL_DEFAULT", 0)])
def test_a_redirect_derives_its_port(derive: str, expected: int) -> None:
    assert route(redirect={"scheme": "https", "derivePort": derive}).redirect.port_redirect == expected


def test_direct_response() -> None:
    (found,) = routes({"directResponse": {"status": 418, "body": {"string": "teapot"}}})
    assert found.direct_response.status == 418
    assert found.direct_response.body.inline_string == "teapot"


def test_a_direct_response_without_body() -> None:
    (found,) = routes({"directResponse": {"status": 204}})
    assert not found.direct_response.HasField("body")


def test_a_long_direct_response_is_allowed_for() -> None:
    body = "ä" * 3000
    snapshot = mesh(
        (service("reviews"), []),
        virtual_services={
            "reviews": {
                "hosts": [REVIEWS],
                "http": [{"directResponse": {"status": 200, "body": {"string": body}}}],
            }
        },
    )
    config = build_routes(BuildCache(), snapshot, sidecar_proxy(), ["9080"])["9080"]
    assert config.max_direct_response_body_size_bytes.value == 6000


def retry_on(policy: RetryPolicy) -> set[str]:
    return set(policy.retry_on.split(","))


@pytest.mark.parametrize("http", [(), ({"route": TO_REVIEWS},)])
def test_default_retries_repeat_nothing_that_may_have_been_done(http: tuple[dict[str, Any], ...]) -> None:
    (found,) = routes(*http)
    policy = found.route.retry_policy
    assert policy.num_retries.value == 2
    assert retry_on(policy) == {
        "connect-failure",
        "refused-stream",
        "unavailable",
        "cancelled",
        "reset-before-request",
    }
    assert not policy.retriable_status_codes


def test_retries_prefer_another_host() -> None:
    policy = route().route.retry_policy
    assert [each.name for each in policy.retry_host_predicate] == [
        "envoy.retry_host_predicates.previous_hosts"
    ]
    assert policy.host_selection_retry_max_attempts == 5


def test_retries_as_asked_for() -> None:
    policy = route(
        retries={
            "attempts": 3,
            "perTryTimeout": "2s",
            "retryOn": "5xx, 503,429",
            "retryRemoteLocalities": True,
        }
    ).route.retry_policy
    assert policy.num_retries.value == 3
    assert policy.per_try_timeout.ToTimedelta() == timedelta(seconds=2)
    assert retry_on(policy) == {"5xx", "retriable-status-codes"}
    assert list(policy.retriable_status_codes) == [429, 503]


def test_retries_without_conditions_take_the_default_ones() -> None:
    policy = route(retries={"attempts": 1}).route.retry_policy
    assert policy.num_retries.value == 1
    assert "reset-before-request" in retry_on(policy)
    assert not policy.HasField("per_try_timeout")


def test_zero_attempts_disable_retries() -> None:
    assert not route(retries={"attempts": 0}).route.HasField("retry_policy")
    (default,) = routes(default_retry_attempts=0)
    assert not default.route.HasField("retry_policy")


def test_paths_that_a_route_makes_are_as_requests_carry_them() -> None:
    assert route(rewrite={"uri": "/dé"}).route.prefix_rewrite == "/d%C3%A9"
    regex = {"match": "/(.*)", "rewrite": r"/é/\1"}
    assert route(rewrite={"uriRegexRewrite": regex}).route.regex_rewrite.substitution == r"/%C3%A9/\1"
    assert route(redirect={"uri": "/dé?a b"}).redirect.path_redirect == "/d%C3%A9?a%20b"


def filter_config(found: Route, name: str, message: MessageT) -> MessageT:
    found.typed_per_filter_config[name].Unpack(message)
    return message


class TestCorsPolicy:
    def policy(self, **cors: Any) -> CorsPolicy:
        return filter_config(route(corsPolicy=cors), "envoy.filters.http.cors", CorsPolicy())

    def test_a_whole_policy(self) -> None:
        found = self.policy(
            allowOrigins=[{"exact": "https://a.test"}, {"prefix": "https://"}, {"regex": "http://.*"}],
            allowMethods=["GET", "PUT"],
            allowHeaders=["X-A", "x-b"],
            exposeHeaders=["x-c", "x-d"],
            maxAge="1h30m",
            allowCredentials=True,
            unmatchedPreflights="IGNORE",
        )
        expected = {
            "allow_origin_string_match": [
                {"exact": "https://a.test"},
                {"prefix": "https://"},
                {"safe_regex": {"regex": "http://.*"}},
            ],
            "allow_methods": "GET,PUT",
            "allow_headers": "X-A,x-b",
            "expose_headers": "x-c,x-d",
            "max_age": "5400",
            "allow_credentials": True,
            "filter_enabled": {"default_value": {"numerator": 100}},
            "forward_not_matching_preflights": False,
        }
        assert MessageToDict(found, preserving_proto_field_name=True) == expected

    def test_fields_that_are_not_set_stay_so(self) -> None:
        found = self.policy(allowOrigins=[{"exact": "*"}])
        assert not found.HasField("allow_credentials")
        assert (found.max_age, found.allow_methods) == ("", "")
        assert found.forward_not_matching_preflights.value

    def test_credentials_may_be_refused(self) -> None:
        found = self.policy(allowCredentials=False)
        assert found.HasField("allow_credentials")
        assert not found.allow_credentials.value

    @pytest.mark.parametrize(
        ("choice", "forwards"), [("UNSPECIFIED", True), ("FORWARD", True), ("IGNORE", False)]
    )
    def test_preflights_that_do_not_match(self, choice: str, forwards: bool) -> None:
        found = self.policy(unmatchedPreflights=choice)
        assert found.forward_not_matching_preflights.value is forwards

    def test_the_deprecated_origins_count_if_there_are_no_others(self) -> None:
        (origin,) = self.policy(allowOrigin=["https://a.test"]).allow_origin_string_match
        assert origin.exact == "https://a.test"
        both = self.policy(allowOrigin=["https://a.test"], allowOrigins=[{"exact": "https://b.test"}])
        assert [each.exact for each in both.allow_origin_string_match] == ["https://b.test"]


class TestFault:
    def fault(self, **fault: Any) -> HTTPFault:
        return filter_config(route(fault=fault), "envoy.filters.http.fault", HTTPFault())

    def test_a_delay_and_an_abort(self) -> None:
        found = self.fault(
            delay={"fixedDelay": "1.5s", "percentage": {"value": 0.1}},
            abort={"httpStatus": 418, "percentage": {"value": 100}},
        )
        assert MessageToDict(found, preserving_proto_field_name=True) == {
            "delay": {"fixed_delay": "1.500s", "percentage": {"numerator": 1000, "denominator": "MILLION"}},
            "abort": {"http_status": 418, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}},
        }

    def test_a_grpc_status_is_a_number(self) -> None:
        abort = self.fault(abort={"grpcStatus": "UNAVAILABLE", "percentage": {"value": 1}}).abort
        assert (abort.WhichOneof("error_type"), abort.grpc_status) == ("grpc_status", 14)

    def test_without_a_percentage_nothing_happens(self) -> None:
        found = self.fault(delay={"fixedDelay": "1s"}, abort={"httpStatus": 503})
        assert (found.delay.percentage.numerator, found.abort.percentage.numerator) == (0, 0)

    def test_the_deprecated_percentage_counts_if_there_is_no_other(self) -> None:
        assert self.fault(delay={"fixedDelay": "1s", "percent": 25}).delay.percentage.numerator == 25


def test_a_route_without_cors_and_faults_configures_no_filter() -> None:
    assert not route().typed_per_filter_config
