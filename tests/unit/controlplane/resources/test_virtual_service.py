from __future__ import annotations

from typing import Any

import pytest

from controlplane.errors import InvalidResourceError
from controlplane.kinds.registry import KINDS
from controlplane.resources.virtual_service import VirtualService
from tests.support.documents import destination, document


def parse(spec: dict[str, Any]) -> VirtualService:
    model = KINDS.parse(document("VirtualService", "a", {"hosts": ["a"], **spec})).spec
    assert isinstance(model, VirtualService)
    return model


def fault(spec: dict[str, Any]) -> str:
    with pytest.raises(InvalidResourceError) as caught:
        parse(spec)
    (error,) = caught.value.errors
    return str(error)


def test_weights_that_sum_to_zero_are_refused() -> None:
    route = [destination("a", weight=0), destination("b", weight=0)]
    assert fault({"http": [{"route": route}]}) == "spec.http[0].route: the sum of the weights is 0"
    assert fault({"tcp": [{"route": route}]}) == "spec.tcp[0].route: the sum of the weights is 0"


def test_destinations_without_any_weight_sum_to_zero_too() -> None:
    route = [destination("a"), destination("b")]
    assert fault({"http": [{"route": route}]}) == "spec.http[0].route: the sum of the weights is 0"


def test_the_only_destination_of_a_route_needs_no_weight() -> None:
    assert parse({"http": [{"route": [destination("a")]}]}).http[0].route[0].weight == 0


def test_weights_that_overflow_envoys_total_are_refused() -> None:
    route = [destination("a", weight=2**31 - 1)] * 3
    assert "the limit is 4294967295" in fault({"http": [{"route": route}]})


@pytest.mark.parametrize("weight", [-1, 1.5, "1", True, 2**31])
def test_a_weight_is_a_natural_number(weight: Any) -> None:
    assert fault({"http": [{"route": [destination("a", weight=weight)]}]}).startswith(
        "spec.http[0].route[0].weight: "
    )


def test_a_regex_that_does_not_compile_is_refused() -> None:
    match = {"uri": {"regex": "(unclosed"}}
    words = fault({"http": [{"match": [match], "route": [destination("a")]}]})
    assert words == (
        "spec.http[0].match[0].uri.regex: '(unclosed' is not an RE2 regular expression: missing ): (unclosed"
    )


def test_an_empty_regex_is_refused() -> None:
    match = {"uri": {"regex": ""}}
    words = fault({"http": [{"match": [match], "route": [destination("a")]}]})
    assert words == "spec.http[0].match[0].uri.regex: should not be empty"


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        (r"/\2", r"`rewrite` has \2, but `match` has 1 groups"),
        (r"/\a", "`rewrite` has a backslash that is not followed by a group number or a backslash"),
        ("/\\", "`rewrite` has a backslash that is not followed by a group number or a backslash"),
    ],
)
def test_a_rewrite_by_a_group_that_does_not_exist_is_refused(rewrite: str, reason: str) -> None:
    regex = {"uriRegexRewrite": {"match": "/(.*)", "rewrite": rewrite}}
    words = fault({"http": [{"rewrite": regex, "route": [destination("a")]}]})
    assert words == f"spec.http[0].rewrite.uriRegexRewrite: {reason}"


@pytest.mark.parametrize("rewrite", [r"/\1", r"/\0", r"/\\2", ""])
def test_groups_that_exist_and_backslashes_may_be_written(rewrite: str) -> None:
    regex = {"uriRegexRewrite": {"match": "/(.*)", "rewrite": rewrite}}
    assert parse({"http": [{"rewrite": regex, "route": [destination("a")]}]})


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ({"rewrite": {"uri": "/\n"}, "route": [destination("a")]}, "rewrite.uri"),
        ({"rewrite": {"authority": "a\r"}, "route": [destination("a")]}, "rewrite.authority"),
        ({"redirect": {"uri": "/\0"}}, "redirect.uri"),
        ({"redirect": {"authority": "a\n"}}, "redirect.authority"),
    ],
)
def test_a_line_break_in_a_header_is_rejected(route: dict[str, Any], path: str) -> None:
    assert fault({"http": [route]}) == (
        f"spec.http[0].{path}: has a control character, which headers must not contain"
    )


@pytest.mark.parametrize("operations", [{"set": {"Host": "a"}}, {"add": {"host": "a"}}, {"remove": ["host"]}])
def test_a_response_has_no_host(operations: dict[str, Any]) -> None:
    route = {"route": [destination("a")], "headers": {"response": operations}}
    assert fault({"http": [route]}) == "spec.http[0].headers.response: `host` is a header of requests only"


def test_the_host_of_a_request_cannot_be_removed() -> None:
    route = {"route": [destination("a")], "headers": {"request": {"remove": ["Host"]}}}
    assert fault({"http": [route]}) == (
        "spec.http[0].headers.request: `host` cannot be removed: every request needs it"
    )


@pytest.mark.parametrize(
    "route",
    [
        {},
        {"route": [destination("a")], "redirect": {"uri": "/"}},
        {"redirect": {"uri": "/"}, "directResponse": {"status": 200}},
        {"route": [destination("a")], "directResponse": {"status": 200}},
    ],
)
def test_a_route_does_exactly_one_thing(route: dict[str, Any]) -> None:
    assert "exactly one of `route`, `redirect` and `directResponse`" in fault({"http": [route]})


def test_a_rewrite_goes_with_destinations_only() -> None:
    route = {"redirect": {"uri": "/"}, "rewrite": {"uri": "/x"}}
    assert fault({"http": [route]}) == "spec.http[0]: `rewrite` needs `route`"


@pytest.mark.parametrize(
    "gateway", ["mesh", "public", "istio-system/public", "public.istio-system.svc.cluster.local"]
)
def test_gateways_are_known_by_their_names_as_istio_has_them(gateway: str) -> None:
    matched = {"match": [{"gateways": [gateway]}], "route": [destination("a")]}
    assert parse({"gateways": [gateway], "http": [matched], "tcp": [matched]}).gateways == (gateway,)


@pytest.mark.parametrize("gateway", ["", "*", "a/b/c", "/public", "istio-system/", "a b"])
def test_an_invalid_name_of_a_gateway_is_rejected(gateway: str) -> None:
    words = fault({"gateways": ["mesh", gateway], "http": [{"route": [destination("a")]}]})
    assert words == f"spec.gateways[1]: {gateway!r} should be `mesh`, NAME or NAMESPACE/NAME"


@pytest.mark.parametrize("gateways", [[], ["mesh"], ["public", "mesh"]])
def test_the_catch_all_host_is_for_gateways_alone(gateways: list[str]) -> None:
    http = [{"route": [destination("a")]}]
    assert parse({"hosts": ["*"], "gateways": ["public"], "http": http})
    words = fault({"hosts": ["*"], "gateways": gateways, "http": http})
    assert words == "spec.hosts: `*` is not allowed for the gateway `mesh`"


@pytest.mark.parametrize("condition", ["5xx,gateway-error", "503, 504", "retriable-status-codes", ""])
def test_envoys_retry_conditions_and_status_codes_are_taken(condition: str) -> None:
    retries = {"attempts": 1, "retryOn": condition}
    assert parse({"http": [{"route": [destination("a")], "retries": retries}]}).http[0].retries


@pytest.mark.parametrize("condition", ["5xxx", "600", "connect_failure"])
def test_an_unknown_retry_condition_is_named(condition: str) -> None:
    retries = {"attempts": 1, "retryOn": f"5xx,{condition}"}
    words = fault({"http": [{"route": [destination("a")], "retries": retries}]})
    assert words == (f"spec.http[0].retries.retryOn: {condition!r} is not a retry condition or a status code")


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\x00", "%REQ(x)%"])
def test_header_values_that_would_be_something_else_are_refused(value: str) -> None:
    headers = {"request": {"set": {"x-a": value}}}
    assert fault({"http": [{"route": [destination("a")], "headers": headers}]}).startswith(
        "spec.http[0].headers.request.set.x-a: "
    )


def test_header_names_are_lower_case_and_tokens() -> None:
    headers = {"request": {"set": {"X-A": "100%%"}, "remove": ["X-B"]}}
    parsed = parse({"http": [{"route": [destination("a")], "headers": headers}]}).http[0].headers
    assert parsed
    assert parsed.request
    assert (parsed.request.set, parsed.request.remove) == ({"x-a": "100%%"}, ("x-b",))
    headers = {"request": {"remove": ["x b"]}}
    assert "not a header name" in fault({"http": [{"route": [destination("a")], "headers": headers}]})


def test_a_header_match_that_istio_would_ignore_is_refused() -> None:
    match = {"headers": {"method": {"exact": "GET"}}}
    assert "match it with the field `method`" in fault(
        {"http": [{"match": [match], "route": [destination("a")]}]}
    )


def test_no_routes_at_all_are_refused() -> None:
    assert fault({}) == "spec: should have `http`, `tls` or `tcp` routes"


def test_tls_routes_need_server_names() -> None:
    tls = [{"match": [{"port": 443}], "route": [destination("a")]}]
    assert fault({"tls": tls}) == "spec.tls[0].match[0].sniHosts: is required"


@pytest.mark.parametrize(
    ("hosts", "server_name"),
    [
        (["a.example.com"], "a.example.com"),
        (["A.example.com"], "a.EXAMPLE.com"),
        (["*.example.com"], "a.example.com"),
        (["*.example.com"], "a.b.example.com"),
        (["*.example.com"], "*.example.com"),
        (["*.example.com"], "*.b.example.com"),
        (["*.example.com"], "*-v1.example.com"),
        (["a.example.org", "*.example.com"], "a.example.com"),
        (["reviews"], "reviews"),
    ],
)
def test_a_server_name_that_the_hosts_cover_is_taken(hosts: list[str], server_name: str) -> None:
    tls = [{"match": [{"sniHosts": [server_name]}], "route": [destination("a")]}]
    assert parse({"hosts": hosts, "tls": tls})


@pytest.mark.parametrize(
    ("hosts", "server_name"),
    [
        (["mine.example.com"], "yours.example.com"),
        (["mine.example.com"], "*.bank.com"),
        (["mine.example.com"], "*.example.com"),
        (["*.mine.example.com"], "*.example.com"),
        (["*.example.com"], "example.com"),
        (["*.example.com"], "bank-example.com"),
        (["*-v1.example.com"], "*.example.com"),
        (["mine.example.com"], "*"),
        (["mine.example.com"], "mine.example.com.bank.com"),
        (["reviews"], "reviews.other.svc.cluster.local"),
    ],
)
def test_a_server_name_of_a_host_that_is_anothers_is_refused(hosts: list[str], server_name: str) -> None:
    match = {"sniHosts": [hosts[0], server_name]}
    tls = [{"match": [{"sniHosts": [hosts[0]]}, match], "route": [destination("a")]}]
    assert fault({"hosts": hosts, "tls": tls}) == (
        f"spec: tls[0].match[1].sniHosts: {server_name!r} is not covered by `hosts`"
    )


@pytest.mark.parametrize("code", [200, 300, 304, 400])
def test_only_redirect_codes_redirect(code: int) -> None:
    assert f"{code} is not one of" in fault({"http": [{"redirect": {"redirectCode": code}}]})


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"allowMethods": ["FETCH"]}, "allowMethods[0]: 'FETCH' is not a method that browsers know"),
        ({"allowHeaders": ["x a"]}, "allowHeaders[0]: 'x a' is not a header name"),
        ({"exposeHeaders": ["x\n"]}, "exposeHeaders[0]: 'x\\n' is not a header name"),
        ({"maxAge": "1.5s"}, "maxAge: should be a whole number of seconds"),
        ({"allowOrigins": [{"exact": ""}]}, "allowOrigins: has an empty origin"),
        ({"allowOrigins": [{"prefix": ""}]}, "allowOrigins: has an empty origin"),
        ({"allowOrigin": ["a\r"]}, "allowOrigin[0]: has a control character, which no origin has"),
    ],
)
def test_an_invalid_cors_policy_is_rejected(policy: dict[str, Any], reason: str) -> None:
    words = fault({"http": [{"route": [destination("a")], "corsPolicy": policy}]})
    assert words == f"spec.http[0].corsPolicy.{reason}"


def test_a_cors_policy_may_allow_everything() -> None:
    policy = {"allowOrigins": [{"exact": "*"}], "allowMethods": ["*"], "allowHeaders": ["*"]}
    assert parse({"http": [{"route": [destination("a")], "corsPolicy": policy}]}).http[0].cors_policy


ALL = {"value": 100}


@pytest.mark.parametrize(
    ("injected", "reason"),
    [
        ({}, ": should have `delay` or `abort`"),
        ({"delay": {"percentage": ALL}}, ".delay.fixedDelay: is required"),
        (
            {"delay": {"exponentialDelay": "1s", "fixedDelay": "1s"}},
            ".delay.exponentialDelay: is an Istio field that is not supported yet",
        ),
        ({"delay": {"fixedDelay": "0s"}}, ".delay.fixedDelay: should be 1ms or more"),
        ({"abort": {"percentage": ALL}}, ".abort: should have exactly one of `httpStatus` and `grpcStatus`"),
        (
            {"abort": {"httpStatus": 500, "grpcStatus": "OK"}},
            ".abort: should have exactly one of `httpStatus` and `grpcStatus`",
        ),
        (
            {"abort": {"grpcStatus": "LOST"}},
            ".abort.grpcStatus: 'LOST' is not a gRPC status such as UNAVAILABLE",
        ),
    ],
)
def test_an_invalid_fault_is_rejected(injected: dict[str, Any], reason: str) -> None:
    words = fault({"http": [{"route": [destination("a")], "fault": injected}]})
    assert words == f"spec.http[0].fault{reason}"


@pytest.mark.parametrize("share", [-0.1, 100.1, "50", float("nan")])
def test_a_share_is_from_0_to_100(share: object) -> None:
    injected = {"abort": {"httpStatus": 500, "percentage": {"value": share}}}
    words = fault({"http": [{"route": [destination("a")], "fault": injected}]})
    assert words.startswith("spec.http[0].fault.abort.percentage.value: ")


@pytest.mark.parametrize("status", [199, 600])
def test_an_abort_has_the_status_of_a_final_response(status: int) -> None:
    words = fault({"http": [{"route": [destination("a")], "fault": {"abort": {"httpStatus": status}}}]})
    assert words.startswith("spec.http[0].fault.abort.httpStatus: ")


def test_faults_go_with_destinations_only() -> None:
    route = {"redirect": {"uri": "/"}, "fault": {"abort": {"httpStatus": 500, "percentage": ALL}}}
    assert fault({"http": [route]}) == "spec.http[0]: `fault` needs `route`"
