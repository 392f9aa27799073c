"""Requests that wait together for connections which cannot be made: when each is answered, and what is
counted. No case depends on how long anything takes: the counters say who failed with whom."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.interop.parity.cluster_pair import Proxy, both_proxies, static_cluster
from tests.support.raw_http import RawConnection
from tests.support.silent_host import vanishing_host

_COUNTERS = (
    "upstream_cx_connect_fail",
    "upstream_cx_connect_timeout",
    "upstream_cx_total",
    "upstream_rq_pending_active",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_pending_overflow",
    "upstream_rq_pending_total",
    "upstream_rq_retry",
    "upstream_rq_retry_limit_exceeded",
)
_TLS = {
    "name": "tls",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    },
}
_RETRY = {"retry_policy": {"retry_on": "connect-failure", "retry_back_off": {"base_interval": "0.001s"}}}


@dataclass(frozen=True, slots=True)
class Case:
    """``expect``: some of Envoy's counters. The host vanishes, or is played by the test."""

    name: str
    thresholds: dict[str, int]
    expect: dict[str, int]
    requests: int = 6
    tls: bool = False
    route: dict[str, Any] = field(default_factory=dict)

    def cluster(self, port: int) -> dict[str, Any]:
        socket_options = {"transport_socket": _TLS} if self.tls else {}
        return static_cluster(
            self.name,
            [("127.0.0.1", port)],
            connect_timeout="0.4s",
            circuit_breakers={"thresholds": [self.thresholds]},
            **socket_options,
        )


ONE = {"max_connections": 1}
TIMEOUTS = (
    Case("one", ONE, {"upstream_cx_total": 1, "upstream_rq_pending_failure_eject": 6}),
    Case("few", {"max_connections": 3}, {"upstream_cx_total": 3, "upstream_rq_pending_failure_eject": 6}),
    Case("many", {}, {"upstream_cx_total": 6, "upstream_rq_pending_failure_eject": 6}),
    Case(
        "overflow",
        {**ONE, "max_pending_requests": 2},
        {"upstream_rq_pending_overflow": 4, "upstream_rq_pending_failure_eject": 2},
    ),
    Case(
        "retried", ONE, {"upstream_cx_total": 2, "upstream_rq_retry": 3}, requests=3, route=_RETRY
    ),
)  # fmt: skip
HANDSHAKE_TIMEOUT = Case("handshake", ONE, {"upstream_cx_connect_timeout": 1}, tls=True)
PLAYED = (
    Case("closed", ONE, {"upstream_cx_total": 1, "upstream_rq_pending_failure_eject": 6}, tls=True),
    Case("garbage", ONE, {"upstream_cx_total": 1, "upstream_rq_pending_failure_eject": 6}, tls=True),
)


@dataclass(frozen=True, slots=True)
class World:
    envoy: Proxy
    sidecar: Proxy
    played: socket.socket
    """What the clusters of `PLAYED` connect to."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        vanishing = stack.enter_context(vanishing_host())
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # accepts, and says nothing
        played = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        played.settimeout(30)
        clusters = [
            *(case.cluster(vanishing) for case in TIMEOUTS),
            HANDSHAKE_TIMEOUT.cluster(mute.getsockname()[1]),
            *({**case.cluster(played.getsockname()[1]), "connect_timeout": "30s"} for case in PLAYED),
        ]
        routes = {case.name: case.route for case in TIMEOUTS}
        pair = stack.enter_context(both_proxies(tmp_path_factory.mktemp("waiting"), clusters, routes))
        yield World(*pair, played)


def fail_together(proxy: Proxy, case: Case, meanwhile: Callable[[], None] = lambda: None) -> dict[str, int]:
    """Sends all requests at once, on connections that are open; returns what was counted in the end."""
    with ExitStack() as stack:
        clients = [stack.enter_context(RawConnection(proxy.port)) for _ in range(case.requests)]
        for client in clients:
            client.send(f"GET /{case.name} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        meanwhile()
        assert [client.read_answer("GET").status for client in clients] == [503] * case.requests
    expected = case.expect.get("upstream_cx_total", 1)
    proxy.process.wait_for(
        lambda: proxy.counters(case.name, "upstream_cx_connect_fail")["upstream_cx_connect_fail"] == expected,
        "all attempts have failed",
    )
    return proxy.counters(case.name, *_COUNTERS)


@pytest.mark.parametrize("case", [*TIMEOUTS, HANDSHAKE_TIMEOUT], ids=lambda case: case.name)
def test_connect_timeouts(world: World, case: Case) -> None:
    envoys = fail_together(world.envoy, case)
    assert envoys.items() >= case.expect.items()
    assert fail_together(world.sidecar, case) == envoys


@pytest.mark.parametrize("case", PLAYED, ids=lambda case: case.name)
def test_handshakes_that_fail(world: World, case: Case) -> None:
    """The host fails the handshake when all requests wait for it."""

    def fail(proxy: Proxy) -> None:
        connection, _ = world.played.accept()
        proxy.process.wait_for(
            lambda: (
                proxy.counters(case.name, "upstream_rq_pending_active")["upstream_rq_pending_active"] == 6
            ),
            "all requests wait",
        )
        if case.name == "garbage":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    envoys = fail_together(world.envoy, case, lambda: fail(world.envoy))
    assert envoys.items() >= case.expect.items()
    assert fail_together(world.sidecar, case, lambda: fail(world.sidecar)) == envoys
