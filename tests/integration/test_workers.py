"""`python -m sidecar --concurrency 2`: real processes, real connections, and the ends of both."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import pytest

from protos import type_urls
from tests.support.admin_client import ask
from tests.support.ads_follower import accept, ads_document
from tests.support.ads_server import ads_server
from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    rds,
    tcp_proxy,
)
from tests.support.process_tree import ProcessTree, descriptors, is_running
from tests.support.processes import DEADLINE_S, free_port
from tests.support.running_sidecar import Document, RunningSidecar, running

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def direct(port: int = 0, **access_log: str) -> Document:
    """One listener, which answers each request itself."""
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "hello"}},
    }
    host = {"name": "all", "domains": ["*"], "routes": [answer]}
    manager = http_connection_manager(route_config={"name": "r", "virtual_hosts": [host]}, **access_log)
    return changed(bootstrap(), "static_resources.listeners", [listener("l", manager, port)])


@contextmanager
def sidecar(folder: Path, *flags: str, document: Document | None = None) -> Iterator[RunningSidecar]:
    with running(folder, document or direct(), "--concurrency", "2", *flags) as made:
        made.wait_for_state("LIVE")
        yield made


def port_of(made: RunningSidecar) -> int:
    return int(made.ask("/listeners").body.strip().rpartition(":")[2])


def tree_of(made: RunningSidecar) -> ProcessTree:
    return ProcessTree(made.process.pid)


class Connection:
    """A keep-alive connection of a client."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.address: tuple[str, int] = self._sock.getsockname()

    def ask(self) -> bytes:
        """The head of the response. Raises `ConnectionError`."""
        self._sock.sendall(REQUEST)
        received = b""
        while not received.endswith(b"hello"):
            data = self._sock.recv(4096)
            if not data:
                raise ConnectionResetError
            received += data
        return received.partition(b"\r\n\r\n")[0]

    def close(self) -> None:
        self._sock.close()


def one_for_each_worker(made: RunningSidecar, stack: ExitStack) -> dict[int, Connection]:
    """Connections that have been used, by the pid of the worker that serves them."""
    port, tree = port_of(made), tree_of(made)
    found: dict[int, Connection] = {}
    while len(found) < 2:
        connection = Connection(port)
        stack.callback(connection.close)
        connection.ask()
        worker = tree.worker_of(connection.address)
        assert worker is not None
        found.setdefault(worker, connection)
    return found


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def stat(made: RunningSidecar, name: str) -> int:
    body = made.ask(f"/stats?filter=^{name}$").body
    return int(body.rpartition(": ")[2])


# What all workers do together.


def test_two_workers_serve_one_free_port_and_their_counters_are_added_up(tmp_path: Path) -> None:
    with sidecar(tmp_path) as made, ExitStack() as stack:
        connections = one_for_each_worker(made, stack)
        before = stat(made, "http.http.downstream_rq_total")
        for connection in connections.values():
            for _ in range(5):
                connection.ask()
        assert stat(made, "http.http.downstream_rq_total") == before + 10
        assert stat(made, "server.concurrency") == 2
        assert stat(made, "server.worker_deaths") == 0
        active = made.ask("/stats?filter=^listener.*downstream_cx_active").body
        assert int(active.rpartition(": ")[2]) >= 2


def test_access_logs_of_both_workers_have_whole_lines_and_are_reopened(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--access-log", "json") as made, ExitStack() as stack:
        connections = one_for_each_worker(made, stack)
        for _ in range(50):
            for connection in connections.values():
                connection.ask()
        made.process.process.send_signal(signal.SIGUSR1)
        made.process.wait_for(
            lambda: "access logs are reopened" in made.process.output, "it reopens its logs"
        )
        made.end()
        lines = made.log_lines()
        assert len(lines) >= 102
        assert all(line.startswith("{") and line.endswith("}") for line in lines)


def test_sigterm_drains_both_workers_and_waits_for_the_connections_of_both(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--drain-time-s", "20") as made, ExitStack() as stack:
        connections = one_for_each_worker(made, stack)
        made.process.process.send_signal(signal.SIGHUP)
        made.process.process.send_signal(signal.SIGTERM)
        made.wait_for_state("DRAINING")
        for connection in connections.values():
            until(lambda c=connection: b"connection: close" in c.ask(), "its worker drains")
        stack.close()
        assert made.process.process.wait(15) == 0
        assert "drained, with 0 connections left" in made.process.output


def test_stopped_listeners_accept_in_no_worker(tmp_path: Path) -> None:
    with sidecar(tmp_path) as made, ExitStack() as stack:
        port, connections = port_of(made), one_for_each_worker(made, stack)
        assert made.ask("/drain_listeners", "POST").status == 200
        with pytest.raises(ConnectionRefusedError):
            Connection(port)
        for connection in connections.values():
            connection.ask()


def test_quitquitquit_ends_all_processes(tmp_path: Path) -> None:
    with sidecar(tmp_path) as made:
        processes = tree_of(made).all
        assert made.ask("/quitquitquit", "POST").status == 200
        assert made.process.process.wait(10) == 0
        assert not [pid for pid in processes if is_running(pid)]


# A worker dies.


def test_a_killed_worker_takes_its_own_connections_with_it_and_is_replaced(tmp_path: Path) -> None:
    """Under load: each client makes a new connection for each request, and repeats one that is lost."""
    with sidecar(tmp_path) as made, ExitStack() as stack:
        port = port_of(made)
        (victim, lost), (_, survivor) = one_for_each_worker(made, stack).items()
        held = descriptors(tree_of(made).supervisor)
        counted = stat(made, "http.http.downstream_rq_total")
        stop, failures = threading.Event(), []

        def load() -> None:
            while not stop.is_set():
                connection = Connection(port)
                try:
                    connection.ask()
                except ConnectionError as error:
                    failures.append(error)
                finally:
                    connection.close()

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        os.kill(victim, signal.SIGKILL)
        until(lambda: stat(made, "server.worker_deaths") == 1, "the death is counted")
        until(lambda: len(tree_of(made).workers) == 2, "the worker is replaced")
        survivor.ask()
        with pytest.raises(ConnectionError):
            lost.ask()
        fresh = one_for_each_worker(made, stack)
        assert victim not in fresh
        stop.set()
        for client in clients:
            client.join()
        assert len(failures) <= len(clients), "a client loses at most the connection that the victim held"
        total = stat(made, "http.http.downstream_rq_total")
        assert total >= counted, "what the dead worker has reported is kept"
        survivor.ask()
        assert stat(made, "http.http.downstream_rq_total") == total + 1
        assert "was killed by SIGKILL: its connections are lost, and it is replaced" in made.process.output
        stack.close()
        until(lambda: descriptors(tree_of(made).supervisor) == held, "the supervisor leaks no descriptors")


def test_workers_that_die_again_and_again_end_the_sidecar_with_one_clear_line(tmp_path: Path) -> None:
    with sidecar(tmp_path) as made:
        processes: set[int] = set()
        while made.process.process.poll() is None:
            try:
                processes.update(tree_of(made).all)
                os.kill(tree_of(made).workers[0], signal.SIGKILL)
            except (OSError, IndexError):
                continue  # it is being replaced, or the sidecar has ended
            time.sleep(0.01)
        assert made.process.process.returncode == 1
        last = made.process.output.splitlines()[-1]
        assert last == "sidecar: 5 workers have died within 60 s; the last one was killed by SIGKILL"
        assert not [pid for pid in processes if is_running(pid)]


def test_a_replacement_is_drained_if_the_others_are(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--drain-time-s", "20") as made, ExitStack() as stack:
        one_for_each_worker(made, stack)
        assert made.ask("/drain_listeners?graceful&skip_exit", "POST").status == 200
        victim = tree_of(made).workers[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: stat(made, "server.worker_deaths") == 1, "the death is counted")
        until(lambda: len(tree_of(made).workers) == 2, "the worker is replaced")
        port, seen = port_of(made), set[int | None]()
        while len(seen) < 2:
            connection = Connection(port)
            stack.callback(connection.close)
            # The response tells that the worker will close, which it does: look at the worker before.
            until(lambda c=connection: tree_of(made).worker_of(c.address) is not None, "it is accepted")
            seen.add(tree_of(made).worker_of(connection.address))
            assert b"connection: close" in connection.ask()
        made.end()


# The other processes die.


@pytest.mark.parametrize("which", ["master", "supervisor"])
def test_no_process_outlives_the_master_or_the_supervisor(tmp_path: Path, which: str) -> None:
    with sidecar(tmp_path) as made:
        tree = tree_of(made)
        processes = tree.all
        os.kill(tree.pid if which == "master" else tree.supervisor, signal.SIGKILL)
        code = made.process.process.wait(10)
        until(lambda: not [pid for pid in processes if is_running(pid)], "all processes end")
        if which == "supervisor":
            assert code == 1
            assert made.process.output.splitlines()[-1] == "sidecar: the supervisor was killed by SIGKILL"


def test_a_bootstrap_error_is_one_line_and_leaves_no_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running(tmp_path, direct(port), "--concurrency", "2") as made:
            assert made.process.process.wait(10) == 1
            last = made.process.output.splitlines()[-1]
            assert last.startswith("sidecar: static listener 'l': ")
            assert last.endswith(f"cannot bind 127.0.0.1:{port}: Address already in use")


def test_a_second_sidecar_does_not_share_the_ports_of_the_first_in_silence(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with sidecar(tmp_path) as made:
        port = port_of(made)
        with running(tmp_path / "other", direct(port), "--concurrency", "2") as other:
            assert other.process.process.wait(10) == 1
            assert "Address already in use" in other.process.output


# Configuration.


async def test_when_an_update_is_acknowledged_every_worker_serves_it(tmp_path: Path) -> None:
    async with ads_server() as server, AsyncExitStack() as stack:
        made = stack.enter_context(running(tmp_path, ads_document(server.port), "--concurrency", "2"))
        stream = await accept(server)
        manager = http_connection_manager(rds=rds("r"))
        port = free_port()
        await stream.send_delta(type_urls.LISTENER, listener("l", manager, port))
        for version in range(5):
            answer = {"status": 200, "body": {"inline_string": f"v{version}"}}
            route = {"match": {"prefix": "/"}, "direct_response": answer}
            routes = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]}
            acknowledged = await stream.send_delta(type_urls.ROUTE, routes, version=f"{version}")
            assert not acknowledged.error_detail.message
            pages = await asyncio.gather(*(asyncio.to_thread(ask, port, "/") for _ in range(8)))
            assert {page.body for page in pages} == {f"v{version}"}
        assert len(tree_of(made).workers) == 2


async def test_updates_leak_no_descriptors(tmp_path: Path) -> None:
    async with ads_server() as server, AsyncExitStack() as stack:
        made = stack.enter_context(running(tmp_path, ads_document(server.port), "--concurrency", "2"))
        stream = await accept(server)
        ports = [free_port() for _ in range(3)]
        counts: list[list[int]] = []
        for _ in range(4):
            for port in ports:
                await stream.send_delta(type_urls.LISTENER, listener("l", tcp_proxy(), port))
            counts.append([descriptors(pid) for pid in tree_of(made).all])
            assert made.ask("/listeners").body == f"l::127.0.0.1:{ports[-1]}\n"
        assert counts[1:] == counts[:1] * 3
