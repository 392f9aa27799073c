"""`tests/interop/parity/test_tracing.py` compares the same with Envoy."""

from __future__ import annotations

from dataclasses import asdict
from random import Random

import pytest

from sidecar.config.fraction import NONE, Fraction
from sidecar.config.tracing import Decorator, RequestIdOptions, RouteTracing, Sampling, Tracing
from sidecar.http.message import Request
from sidecar.http.tracing import TRACE_HEADERS, RequestTracing, RouteTraceRules
from sidecar.observability.stats import TracingStats
from tests.support.requests import make_request

OPERATION = b"x-envoy-decorator-operation"
NAMED = RouteTraceRules(Decorator(operation="of-route"), None)
UNDECIDED = b"00001388-1111-4111-8111-111111111111"  # its number is 5000
NOT_RANDOM = Sampling(random=NONE)


def tracing(
    sampling: Sampling = NOT_RANDOM,
    *,
    egress: bool = True,
    stats: TracingStats | None = None,
    **request_id: bool,
) -> RequestTracing:
    return RequestTracing(
        Tracing(sampling=sampling),
        RequestIdOptions(**request_id),
        egress=egress,
        stats=stats or TracingStats(),
        rng=Random(1),
    )


def traced(*headers: tuple[bytes, bytes]) -> Request:
    """As `ForwardedHeaders` leaves it."""
    request = make_request(headers=list(headers))
    request.info.trace_headers = any(name in TRACE_HEADERS for name, _ in headers)
    return request


def with_id(request_id: bytes = UNDECIDED, *headers: tuple[bytes, bytes]) -> Request:
    request = traced((b"a", b"b"), (b"x-request-id", request_id), *headers)
    request.info.request_id = request_id
    return request


def test_the_operation_leaves_with_the_request() -> None:
    clients = tracing()
    request = traced((b"a", b"b"), (OPERATION, b"of-client"), (OPERATION, b"again"))
    clients.begin(request, NAMED)
    assert request.headers == [(b"a", b"b"), (OPERATION, b"of-route")]
    assert request.info.operation is None


@pytest.mark.parametrize("route", [None, RouteTraceRules(Decorator(operation="a", propagate=False), None)])
def test_without_an_operation_the_clients_name_passes(route: RouteTraceRules | None) -> None:
    request = traced((OPERATION, b"of-client"))
    tracing().begin(request, route)
    assert request.headers == [(OPERATION, b"of-client")]


def test_the_response_names_the_operation_that_the_client_has_not_named() -> None:
    servers = tracing(egress=False)
    request = traced((OPERATION, b""))
    servers.begin(request, NAMED)
    assert request.headers == []
    assert request.info.operation == (OPERATION, b"of-route")


def test_the_clients_name_is_not_passed_to_the_application() -> None:
    servers = tracing(egress=False)
    request = traced((OPERATION, b""), (OPERATION, b"of-client"), (b"a", b"b"))
    servers.begin(request, NAMED)
    assert request.headers == [(b"a", b"b")]
    assert request.info.operation is None


@pytest.mark.parametrize(
    ("sampling", "digit"),
    [
        (Sampling(), b"9"),
        (Sampling(random=NONE), b"4"),
        (Sampling(random=Fraction(numerator=5001, denominator=10_000)), b"9"),
        (Sampling(random=Fraction(numerator=5000, denominator=10_000)), b"4"),
        (Sampling(overall=Fraction(numerator=5000, denominator=10_000)), b"4"),
    ],
)
def test_the_request_id_decides_whether_a_request_is_traced(sampling: Sampling, digit: bytes) -> None:
    request = with_id()
    tracing(sampling).begin(request, None)
    decided = UNDECIDED[:14] + digit + UNDECIDED[15:]
    assert request.headers == [(b"a", b"b"), (b"x-request-id", decided)]
    assert request.info.request_id == decided


@pytest.mark.parametrize("digit", [b"9", b"a", b"b"])
def test_the_decision_of_an_earlier_proxy_stays_unless_nothing_is_traced(digit: bytes) -> None:
    decided = UNDECIDED[:14] + digit + UNDECIDED[15:]
    request = with_id(decided)
    tracing().begin(request, None)
    assert request.info.request_id == decided
    tracing(Sampling(overall=NONE)).begin(request, None)
    assert request.info.request_id == UNDECIDED


def test_a_client_can_ask_to_be_traced() -> None:
    asked = with_id(UNDECIDED, (b"x-client-trace-id", b""))
    tracing().begin(asked, None)
    assert asked.info.request_id[14:15] == b"b"
    ignored = with_id(UNDECIDED, (b"x-client-trace-id", b""))
    tracing(Sampling(client=NONE, random=NONE)).begin(ignored, None)
    assert ignored.info.request_id == UNDECIDED


def test_the_sampling_of_the_route_has_precedence() -> None:
    request = with_id()
    tracing().begin(request, RouteTraceRules(None, RouteTracing()))
    assert request.info.request_id[14:15] == b"9"


@pytest.mark.parametrize("option", ["pack_trace_reason", "use_for_sampling"])
def test_the_request_id_stays_as_it_is_if_the_configuration_demands_it(option: str) -> None:
    request = with_id()
    tracing(Sampling(), **{option: False}).begin(request, None)
    assert request.info.request_id == UNDECIDED


@pytest.mark.parametrize("odd", [b"", b"123", b"g" * 36, b"+1234567" + UNDECIDED[8:], b"12345678"])
def test_an_id_that_is_no_uuid_stays_as_it_is(odd: bytes) -> None:
    request = with_id(odd)
    tracing(Sampling()).begin(request, None)
    assert request.info.request_id == odd
    assert request.headers == [(b"a", b"b"), (b"x-request-id", odd)]


def test_requests_are_counted_by_the_reason() -> None:
    stats = TracingStats()
    half = tracing(Sampling(random=Fraction(numerator=50)), stats=stats)
    for request_id in (b"00000000" + UNDECIDED[8:], b"?", UNDECIDED[:14] + b"a" + UNDECIDED[15:]):
        half.begin(with_id(request_id), None)
    half.begin(with_id(UNDECIDED, (b"x-client-trace-id", b"1")), None)
    assert asdict(stats) == {
        "tracing__client_enabled": 1,
        "tracing__not_traceable": 1,
        "tracing__random_sampling": 1,
        "tracing__service_forced": 1,
    }
