"""Two workers in each proxy: a limit of a cluster holds for both together. Requests come on many connections,
which the kernel spreads over the workers; no case depends on how."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.parity.cluster_pair import Proxy, both_proxies, static_cluster
from tests.support.holding_upstream import HoldingUpstream, holding_upstream
from tests.support.raw_http import RawConnection
from tests.support.silent_host import vanishing_host

CLIENTS = 12
_RETRY = {"retry_policy": {"retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s"}}}


def limits(**thresholds: Any) -> dict[str, Any]:
    return {"circuit_breakers": {"thresholds": [thresholds]}}


@contextmanager
def request(proxy: Proxy, path: str, number: int = 0) -> Iterator[RawConnection]:
    """Sent on a connection of its own."""
    with RawConnection(proxy.port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nhost: a\r\nx-id: {proxy.name}{number}\r\n\r\n".encode())
        yield client


def statuses(proxy: Proxy, path: str) -> list[int]:
    with ExitStack() as stack:
        clients = [stack.enter_context(request(proxy, path, number + 1)) for number in range(CLIENTS)]
        return [client.read_answer("GET").status for client in clients]


def while_one_is_held(proxy: Proxy, upstream: HoldingUpstream, cluster: str, path: str) -> dict[str, int]:
    """What is counted for `CLIENTS` requests that come while another one uses up the limit."""
    with request(proxy, f"/{cluster}/{path}") as holder:
        upstream.wait_until_it_holds()
        assert statuses(proxy, f"/{cluster}/{path}") == [503] * CLIENTS
        upstream.release()
        assert holder.read_answer("GET").status == 200
    counted = ("upstream_rq_active_overflow", "upstream_rq_retry", "upstream_rq_retry_overflow")
    return proxy.counters(cluster, *counted)


CASES = {
    "requests": (limits(max_requests=1), "hold"),
    "retries": (limits(max_retries=1), "again"),
    "budget": (
        limits(max_retries=0, retry_budget={"budget_percent": {"value": 0}, "min_retry_concurrency": 1}),
        "again",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_worker_uses_up_the_limit_of_both(tmp_path: Path, name: str) -> None:
    fields, path = CASES[name]
    counted = []
    for which in (0, 1):
        folder = tmp_path / str(which)
        folder.mkdir()
        with holding_upstream() as upstream:
            cluster = static_cluster(name, [("127.0.0.1", upstream.port)], **fields)
            with both_proxies(folder, [cluster], {name: _RETRY}, concurrency=2) as pair:
                counted.append(while_one_is_held(pair[which], upstream, name, path))
    envoys, ours = counted
    overflows = envoys["upstream_rq_active_overflow"] + envoys["upstream_rq_retry_overflow"]
    assert overflows == CLIENTS
    assert ours == envoys


def test_requests_that_wait_in_one_worker_use_up_the_limit_of_both(tmp_path: Path) -> None:
    with vanishing_host() as port:
        fields = {**limits(max_pending_requests=1), "connect_timeout": "30s"}
        cluster = static_cluster("waiting", [("127.0.0.1", port)], **fields)
        counted = []
        with both_proxies(tmp_path, [cluster], concurrency=2) as pair:
            for proxy in pair:
                with request(proxy, "/waiting"):
                    proxy.process.wait_for(
                        lambda proxy=proxy: (
                            proxy.counters("waiting", "upstream_rq_pending_active")
                            == {"upstream_rq_pending_active": 1}
                        ),
                        "a request waits",
                    )
                    assert statuses(proxy, "/waiting") == [503] * CLIENTS
                    counted.append(proxy.counters("waiting", "upstream_rq_pending_overflow"))
    envoys, ours = counted
    assert envoys == ours == {"upstream_rq_pending_overflow": CLIENTS}


def test_a_host_that_one_worker_ejects_gets_no_requests_from_the_other(tmp_path: Path) -> None:
    outliers = {"consecutive_5xx": 1, "max_ejection_percent": 50, "base_ejection_time": "300s"}
    with holding_upstream() as upstream, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and never listens
        hosts = [("127.0.0.1", refusing.getsockname()[1]), ("127.0.0.1", upstream.port)]
        cluster = static_cluster("up", hosts, outlier_detection=outliers)
        with both_proxies(tmp_path, [cluster], concurrency=2) as pair:
            for proxy in pair:
                proxy.process.wait_for(lambda proxy=proxy: proxy.ask("up") == 503, "a request fails")
                proxy.process.wait_for(
                    lambda proxy=proxy: (
                        proxy.counters("up", "membership_healthy") == {"membership_healthy": 1}
                    ),
                    "both workers know of the ejection",
                )
                assert statuses(proxy, "/up") == [200] * CLIENTS
            envoys, ours = (
                proxy.counters(
                    "up", "outlier_detection.ejections_active", "outlier_detection.ejections_enforced_total"
                )
                for proxy in pair
            )
    assert ours == envoys
    assert ours["outlier_detection.ejections_active"] == 1
