"""Two workers in processes of their own: the limits that they share, and their totals."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    static_cluster,
    tcp_proxy,
)
from tests.support.holding_upstream import HoldingUpstream, holding_upstream
from tests.support.process_tree import ProcessTree
from tests.support.raw_http import RawConnection
from tests.support.running_sidecar import RunningSidecar, running

# The kernel spreads their connections over the workers: not all of them go to one.
CLIENTS = 12


def document(cluster: dict[str, Any]) -> dict[str, Any]:
    """Listeners for HTTP and for TCP, which lead to one cluster."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "up"}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    http = listener("http", http_connection_manager(route_config={"name": "r", "virtual_hosts": [host]}))
    listeners = [{**http, "traffic_direction": "OUTBOUND"}, listener("tcp", tcp_proxy("up"))]
    made = changed(bootstrap(), "static_resources.listeners", listeners)
    return changed(made, "static_resources.clusters", [cluster])


def limited(port: int, **thresholds: int) -> dict[str, Any]:
    return {**static_cluster("up", port), "circuit_breakers": {"thresholds": [thresholds]}}


class Workers:
    """A sidecar with two workers, and a client's connection to each."""

    def __init__(self, sidecar: RunningSidecar, stack: ExitStack) -> None:
        self.sidecar = sidecar
        self._stack = stack
        self._tree = ProcessTree(sidecar.process.pid)
        listening = (line.partition("::") for line in sidecar.ask("/listeners").body.splitlines())
        self._ports = {name: int(address.rpartition(":")[2]) for name, _, address in listening}

    @property
    def pids(self) -> list[int]:
        return self._tree.workers

    def connect(self, listener: str = "http") -> RawConnection:
        return self._stack.enter_context(RawConnection(self._ports[listener]))

    def connect_to(self, worker: int) -> RawConnection:
        """A connection that this worker (its pid) has accepted."""
        while True:
            connection = self.connect()
            if self._accepted_by(connection) == worker:
                return connection

    def _accepted_by(self, connection: RawConnection) -> int | None:
        find = partial(self._tree.worker_of, connection.address)
        self.sidecar.process.wait_for(lambda: find() is not None, "the connection is accepted")
        return find()

    def stat(self, name: str) -> int:
        return int(self.sidecar.ask(f"/stats?filter=^{re.escape(name)}$").body.rpartition(": ")[2])

    def wait_for_stat(self, name: str, value: int) -> None:
        self.sidecar.process.wait_for(lambda: self.stat(name) == value, f"{name} is {value}")

    def kill(self, worker: int) -> None:
        """Returns when another one has replaced it."""
        deaths = self.stat("server.worker_deaths")
        os.kill(worker, signal.SIGKILL)
        self.wait_for_stat("server.worker_deaths", deaths + 1)
        self.sidecar.process.wait_for(
            lambda: len(self.pids) == 2 and worker not in self.pids, "it is replaced"
        )


@contextmanager
def two_workers(folder: Path, cluster: dict[str, Any]) -> Iterator[Workers]:
    with running(folder, document(cluster), "--concurrency", "2") as sidecar, ExitStack() as stack:
        sidecar.wait_for_state("LIVE")
        yield Workers(sidecar, stack)


@pytest.fixture
def upstream() -> Iterator[HoldingUpstream]:
    with holding_upstream() as made:
        yield made


def send(connection: RawConnection, path: str = "/") -> None:
    connection.send(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())


def ask(connection: RawConnection) -> int:
    send(connection)
    return connection.read_answer("GET").status


def test_the_requests_of_a_dead_worker_do_not_count(tmp_path: Path, upstream: HoldingUpstream) -> None:
    with two_workers(tmp_path, limited(upstream.port, max_requests=1)) as workers:
        victim, other = workers.pids
        held, client = workers.connect_to(victim), workers.connect_to(other)
        send(held, "/hold")
        upstream.wait_until_it_holds()
        assert ask(client) == 503
        workers.kill(victim)
        assert ask(client) == 200
        (new,) = set(workers.pids) - {other}
        assert ask(workers.connect_to(new)) == 200


def test_a_replacement_shares_the_limit(tmp_path: Path, upstream: HoldingUpstream) -> None:
    with two_workers(tmp_path, limited(upstream.port, max_requests=1)) as workers:
        victim, other = workers.pids
        held = workers.connect_to(other)
        workers.kill(victim)
        (new,) = set(workers.pids) - {other}
        client = workers.connect_to(new)
        send(held, "/hold")
        upstream.wait_until_it_holds()
        assert ask(client) == 503
        upstream.release()
        assert held.read_answer("GET").status == 200
        assert ask(client) == 200


def test_tcp_connections_of_both_workers_count_together(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        two_workers(tmp_path, limited(server.getsockname()[1], max_connections=1)) as workers,
    ):
        server.settimeout(10)
        first = workers.connect("tcp")
        accepted, _ = server.accept()
        with accepted:
            assert [workers.connect("tcp").read_rest() for _ in range(CLIENTS)] == [""] * CLIENTS
            assert workers.stat("cluster.up.upstream_cx_overflow") == CLIENTS
            accepted.sendall(b"still open")
        assert first.read_rest() == "still open"


def test_a_replacement_learns_which_hosts_are_ejected(tmp_path: Path, upstream: HoldingUpstream) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # and never listens
        outliers = {"consecutive_5xx": 1, "max_ejection_percent": 50, "base_ejection_time": "300s"}
        cluster = static_cluster("up", refusing.getsockname()[1], upstream.port)
        with two_workers(tmp_path, {**cluster, "outlier_detection": outliers}) as workers:
            victim = workers.pids[0]
            client = workers.connect_to(victim)
            while ask(client) == 200:
                pass
            workers.wait_for_stat("cluster.up.membership_healthy", 1)  # in both
            workers.kill(victim)
            workers.wait_for_stat("cluster.up.membership_healthy", 1)  # in the new one, too
            for worker in workers.pids:
                client = workers.connect_to(worker)
                assert {ask(client) for _ in range(10)} == {200}
            assert workers.stat("cluster.up.outlier_detection.ejections_enforced_total") == 1


COUNTERS = (
    "http.http.downstream_rq_total",
    "http.http.downstream_cx_total",
    "cluster.up.upstream_rq_2xx",
    "cluster.up.upstream_rq_total",
    "cluster.up.update_success",
)


def test_counters_never_fall_when_workers_die(tmp_path: Path, upstream: HoldingUpstream) -> None:
    with two_workers(tmp_path, static_cluster("up", upstream.port)) as workers:
        shown: list[list[float]] = []

        def scrape() -> None:
            requests = sum(value for _, value in workers.sidecar.samples("istio_requests_total"))
            shown.append([requests, *map(workers.stat, COUNTERS)])

        for _ in range(2):
            victim = workers.pids[0]
            for worker in workers.pids:
                client = workers.connect_to(worker)
                assert [ask(client) for _ in range(5)] == [200] * 5
            scrape()
            assert shown[-1][0] == shown[-1][1], "each request is counted once"
            os.kill(victim, signal.SIGKILL)
            while victim in workers.pids or len(workers.pids) < 2:
                scrape()
            scrape()
        assert all(
            after >= before
            for earlier, later in pairwise(shown)
            for before, after in zip(earlier, later, strict=True)
        )
        assert shown[-1][:2] == [20, 20]
        assert workers.stat("server.worker_deaths") == 2
        assert workers.stat("cluster.up.upstream_cx_active") <= 1
