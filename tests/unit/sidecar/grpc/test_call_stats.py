from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.endpoint import SocketAddress
from sidecar.grpc.addresses import Replica
from sidecar.grpc.call_stats import CallStats, ClusterCalls, OwnCalls
from sidecar.grpc_status import GrpcStatus
from sidecar.observability.stats import ClusterStats, Counters, Http2Stats

ONE, TWO = (Replica(SocketAddress(f"10.0.0.{number}", 15012), "plane.test") for number in (1, 2))


def counted(counters: Counters) -> dict[str, Any]:
    """Those that are not 0, but not the histogram."""
    return {name: value for name, value in counters.items() if isinstance(value, int) and value}


def begun() -> tuple[ClusterCalls, CallStats]:
    calls = ClusterCalls()
    return calls, calls.begin(ONE)


def test_a_connection_counts_from_the_attempt_to_open_it() -> None:
    calls, _ = begun()
    assert counted(calls.cluster) == {
        "upstream_cx_total": 1,
        "upstream_cx_active": 1,
        "upstream_cx_http2_total": 1,
        "upstream_rq_pending_total": 1,
        "upstream_rq_pending_active": 1,
    }
    assert counted(calls.hosts[ONE]) == {"cx_total": 1, "cx_active": 1}


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (TimeoutError(), "upstream_cx_connect_timeout"),
        (ssl.SSLCertVerificationError(), "ssl.fail_verify_error"),
        (ssl.SSLError(), "ssl.connection_error"),
        (ConnectionRefusedError(), "upstream_cx_connect_fail"),
    ],
)
def test_a_failure_to_connect_counts_by_its_kind(error: Exception, counter: str) -> None:
    calls, call = begun()
    call.not_connected(error)
    values = counted(calls.cluster)
    assert values.pop(counter) == 1
    assert values.pop("upstream_cx_connect_fail", 1) == 1
    assert values == {
        "upstream_cx_total": 1,
        "upstream_cx_destroy": 1,
        "upstream_cx_http2_total": 1,
        "upstream_rq_pending_total": 1,
        "upstream_rq_pending_failure_eject": 1,
    }
    assert counted(calls.hosts[ONE]) == {"cx_total": 1, "cx_connect_fail": 1, "rq_error": 1}


def test_a_call_that_is_cancelled_while_it_connects_blames_no_host() -> None:
    calls, call = begun()
    call.not_connected(asyncio.CancelledError())
    assert calls.cluster.upstream_rq_cancelled == calls.cluster.upstream_cx_destroy == 1
    assert calls.cluster.upstream_cx_connect_fail == 0
    assert counted(calls.hosts[ONE]) == {"cx_total": 1}


@pytest.mark.parametrize(
    ("status", "judgement"),
    [
        (GrpcStatus.OK, {"rq_success": 1}),
        (GrpcStatus.PERMISSION_DENIED, {"rq_success": 1}),
        (GrpcStatus.UNAVAILABLE, {"rq_error": 1}),
        (None, {}),
    ],
)
def test_the_status_judges_the_host(status: GrpcStatus | None, judgement: dict[str, int]) -> None:
    calls, call = begun()
    call.connected(secured=True)
    call.responded(200, 0.02)
    call.ended(status)
    call.disconnected()
    assert counted(calls.cluster) == {
        "ssl.handshake": 1,
        "upstream_cx_total": 1,
        "upstream_cx_destroy": 1,
        "upstream_cx_http2_total": 1,
        "upstream_rq_pending_total": 1,
        "upstream_rq_total": 1,
        "upstream_rq_completed": 1,
        "upstream_rq_2xx": 1,
    }
    assert calls.cluster.upstream_rq_time.total == pytest.approx(20)
    assert counted(calls.hosts[ONE]) == {"cx_total": 1, "rq_total": 1} | judgement
    assert not counted(calls.http2)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (lambda call: call.reset_by_server(), {"upstream_rq_rx_reset": 1, "http2.rx_reset": 1}),
        (lambda call: call.timed_out(), {"upstream_rq_timeout": 1}),
        (lambda call: call.protocol_error("rx_messaging_error"), {"http2.rx_messaging_error": 1}),
        (
            lambda call: call.cut_short(by_server=True),
            {
                "upstream_cx_destroy_with_active_rq": 1,
                "upstream_cx_destroy_remote_with_active_rq": 1,
            },
        ),
        (
            lambda call: call.keepalive_expired(),
            {
                "upstream_cx_destroy_with_active_rq": 1,
                "upstream_cx_destroy_local_with_active_rq": 1,
                "http2.keepalive_timeout": 1,
            },
        ),
    ],
)
def test_a_call_without_a_response_counts_as_an_error(
    event: Callable[[CallStats], None], expected: dict[str, int]
) -> None:
    calls, call = begun()
    call.connected(secured=False)
    event(call)
    call.ended(GrpcStatus.UNAVAILABLE)
    call.disconnected()
    values = counted(calls.cluster) | {f"http2.{name}": value for name, value in counted(calls.http2).items()}
    assert values == expected | {
        "upstream_cx_total": 1,
        "upstream_cx_destroy": 1,
        "upstream_cx_http2_total": 1,
        "upstream_rq_pending_total": 1,
        "upstream_rq_total": 1,
        "upstream_rq_completed": 1,
        "upstream_rq_5xx": 1,
    }
    assert calls.hosts[ONE].rq_error == 1


def test_a_replica_that_has_left_is_forgotten_with_its_last_connection() -> None:
    calls, call = begun()
    calls.keep([TWO])
    assert set(calls.hosts) == {ONE}
    call.not_connected(OSError())
    calls.keep([ONE])
    assert set(calls.hosts) == {ONE}
    calls.keep([TWO])
    assert not calls.hosts


def test_calls_count_below_the_name_of_the_cluster_in_statistics() -> None:
    clusters = {
        name: ClusterConfig(name=name, discovery=Discovery.STATIC, connect_timeout_s=1, alt_stat_name=alt)
        for name, alt in (("xds-grpc", ""), ("ca", "authority"))
    }
    own = OwnCalls(clusters)
    assert not list(own.sets())
    for name in clusters:
        assert own.to(name) is own.to(name)
        own.to(name).begin(ONE)
    prefixes = {(prefix, type(each)) for prefix, each in own.sets()}
    assert prefixes == {
        ("cluster.xds-grpc", ClusterStats),
        ("cluster.xds-grpc.http2", Http2Stats),
        ("cluster.authority", ClusterStats),
        ("cluster.authority.http2", Http2Stats),
    }
    assert [(replica, stats.cx_active) for replica, stats in own.hosts("ca")] == [(ONE, 1)]
    assert not list(own.hosts("other"))
