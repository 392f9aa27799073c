from __future__ import annotations

import math
from typing import Any

import pytest

from sidecar.config.route import MaxStreamDuration
from sidecar.http.headers import get_header
from sidecar.router.stream_duration import StreamDuration
from tests.support.requests import make_request


def apply(
    deadline: bytes | None = None, *, otherwise_s: float = math.inf, **limits: Any
) -> tuple[float, Any]:
    """The limit of a gRPC call, and the deadline that its server sees."""
    request = make_request(headers=[] if deadline is None else [(b"grpc-timeout", deadline)])
    request.begin_grpc_call()
    limit_s = StreamDuration(MaxStreamDuration(**limits)).apply(request, otherwise_s)
    return limit_s, get_header(request.headers, b"grpc-timeout")


@pytest.mark.parametrize("deadline", [None, b"1S"])
def test_the_limit_of_the_route_replaces_the_deadline(deadline: bytes | None) -> None:
    assert apply(deadline, limit_s=3.0) == (3.0, b"3000m")


def test_a_limit_of_0_is_no_limit_and_leaves_the_deadline() -> None:
    assert apply(b"1S", limit_s=0.0, otherwise_s=5.0) == (math.inf, b"1S")


def test_without_a_limit_the_connection_managers_applies() -> None:
    assert apply(b"1S", otherwise_s=5.0) == (5.0, b"5000m")
    assert apply(b"1S") == (math.inf, b"1S")


def test_the_deadline_is_the_limit_if_the_route_respects_it() -> None:
    assert apply(b"1S", limit_s=0.0, grpc_timeout_header_max_s=0.0) == (1.0, b"1000m")
    assert apply(b"9S", limit_s=0.0, grpc_timeout_header_max_s=2.0) == (2.0, b"2000m")
    assert apply(None, limit_s=4.0, grpc_timeout_header_max_s=2.0) == (4.0, b"4000m")
    assert apply(b"bad", limit_s=4.0, grpc_timeout_header_max_s=2.0) == (4.0, b"4000m")


def test_the_offset_may_leave_no_time() -> None:
    limits = {"grpc_timeout_header_max_s": 0.0, "grpc_timeout_header_offset_s": 0.5}
    assert apply(b"2S", **limits) == (1.5, b"1500m")
    assert apply(b"400m", **limits) == (0.0, b"0m")


def test_a_request_that_is_no_call_gets_no_deadline() -> None:
    request = make_request()
    assert StreamDuration(MaxStreamDuration(limit_s=3.0)).apply(request, math.inf) == 3.0
    assert request.headers == []
