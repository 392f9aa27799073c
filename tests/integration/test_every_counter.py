"""Every counter that the sidecar declares is moved by something that happens at its sockets.

A scenario yields when all that it moves has happened, or while it goes on. It may yield another sidecar than
the one that the scenarios share; what that has counted since its start is then compared.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.support.counted_mesh import CountedMesh, counted_mesh
from tests.support.declared_counters import declared, moved, read
from tests.support.raw_http import RawConnection
from tests.support.running_sidecar import RunningSidecar

DEADLINE_S = 10.0
Scenario = Callable[[CountedMesh], AbstractContextManager[RunningSidecar | None]]
SCENARIOS: dict[str, tuple[Scenario, frozenset[str]]] = {}
# Pools keep their connections, and a host stays ejected for its time.
RETURN_TO_ZERO = frozenset(
    name
    for name in declared()
    if name.endswith("_active")
    and not name.endswith(("ejections_active", ".cx_active", "upstream_cx_active"))
)
AT_START = "what_a_start_counts"


def moves(*names: str) -> Callable[[Callable[[CountedMesh], Iterator[RunningSidecar | None]]], None]:
    def register(scenario: Callable[[CountedMesh], Iterator[RunningSidecar | None]]) -> None:
        SCENARIOS[scenario.__name__] = (contextmanager(scenario), frozenset(names))

    return register


def of(scope: str, names: str) -> tuple[str, ...]:
    return tuple(f"{scope}.{name}" for name in names.split())


def request(path: str, answer: str = "ok", *, body: bytes = b"", fields: str = "") -> bytes:
    """A request to the route of that path, or to the cluster of that name."""
    return (
        f"POST /{path} HTTP/1.1\r\nhost: a\r\nx-cluster: {path}\r\nanswer: {answer}\r\n{fields}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def ask(mesh: CountedMesh, path: str, *answers: str, listener: str = "web") -> None:
    """Sends requests one after the other, and reads their answers."""
    with RawConnection(mesh.ports[listener]) as client:
        for answer in answers or ("ok",):
            client.send(request(path, answer))
            while client.read_answer("POST").status < 200:
                pass


def until_the_host_has_a_request(mesh: CountedMesh) -> None:
    while not mesh.upstream.take_seen():
        time.sleep(0.005)


@moves(
    *of("cluster", "membership_change membership_healthy membership_total"),
    *of("cluster", "update_attempt update_success update_failure"),
)
def what_a_start_counts(mesh: CountedMesh) -> Iterator[None]:
    yield


@moves(
    *of("http", "downstream_cx_total downstream_cx_active downstream_cx_rx_bytes_total"),
    *of("http", "downstream_cx_http1_total downstream_cx_http1_active downstream_rq_http1_total"),
    *of("http", "downstream_cx_tx_bytes_total downstream_rq_total downstream_rq_2xx downstream_rq_time"),
    "http.downstream_rq_completed",
    *of("cluster", "upstream_cx_total upstream_cx_active upstream_cx_rx_bytes_total"),
    "cluster.upstream_cx_http1_total",
    *of("cluster", "upstream_cx_tx_bytes_total upstream_rq_total upstream_rq_2xx upstream_rq_completed"),
    *of("cluster", "upstream_rq_time upstream_rq_pending_total"),
    *of("host", "cx_active cx_total rq_success rq_total"),
    *of("listener", "downstream_cx_active downstream_cx_total"),
)
def a_first_request(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("one-request", fields="connection: keep-alive\r\n"))
        assert client.read_answer("POST").status == 200
        client.send(request("up"))
        assert client.read_answer("POST").status == 200
        yield


@moves("http.downstream_cx_destroy", "listener.downstream_cx_destroy", "cluster.upstream_cx_destroy")
def connections_that_close(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "up", "close")
    yield


@moves(
    *of("http", "downstream_rq_3xx downstream_rq_4xx downstream_rq_5xx"),
    *of("cluster", "upstream_rq_3xx upstream_rq_4xx upstream_rq_5xx"),
    "host.rq_error",
)
def answers_of_each_class(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "up", "302", "404", "503")
    yield


@contextmanager
def websocket(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("up", "switch", fields="connection: upgrade\r\nupgrade: websocket\r\n"))
        assert client.read_answer("GET").status == 101
        yield


@moves(*of("http", "downstream_cx_upgrades_active downstream_cx_upgrades_total"))
def a_tunnel(mesh: CountedMesh) -> Iterator[None]:
    with websocket(mesh):
        yield


@moves("http.downstream_rq_1xx", "cluster.upstream_rq_1xx")
def a_tunnel_that_ends(mesh: CountedMesh) -> Iterator[None]:
    with websocket(mesh):
        pass
    yield


@moves("http.downstream_rq_active", "cluster.upstream_rq_active", "host.rq_active")
def a_request_under_way(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("up", "silence"))
        yield


@moves(
    "http.downstream_rq_rx_reset",
    *of("cluster", "upstream_rq_tx_reset upstream_cx_destroy_local_with_active_rq"),
    "cluster.upstream_cx_destroy_with_active_rq",
)
def a_client_that_leaves(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("up", "silence"))
        until_the_host_has_a_request(mesh)
    yield


@moves("cluster.upstream_rq_rx_reset", "cluster.upstream_cx_destroy_remote_with_active_rq")
def a_host_that_leaves(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "up", "reset")
    yield


@moves("http.downstream_rq_tx_reset", "cluster.upstream_cx_protocol_error")
def a_response_that_is_cut_short(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("up", "cut short"))
        client.read_rest()
    yield


@moves("http.downstream_rq_response_before_rq_complete")
def a_response_before_the_end_of_its_request(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        client.read_rest()
    yield


@moves("http.downstream_rq_failed_path_normalization")
def a_path_with_a_fragment(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["web"]) as client:
        client.send(b"GET /up#a HTTP/1.1\r\nhost: a\r\n\r\n")
        client.read_rest()
    yield


@moves(*of("http", "downstream_cx_protocol_error downstream_rq_too_large"))
def requests_that_are_refused(mesh: CountedMesh) -> Iterator[None]:
    for data in (b"\x00\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 70_000 + b"\r\n\r\n"):
        with RawConnection(mesh.ports["web"]) as client:
            client.send(data)
            client.read_rest()
    yield


@moves(
    *of("http", "downstream_cx_idle_timeout downstream_rq_header_timeout downstream_rq_idle_timeout"),
    *of("http", "downstream_rq_max_duration_reached downstream_rq_timeout"),
    "http.downstream_cx_max_duration_reached",
)
def clients_that_are_slow(mesh: CountedMesh) -> Iterator[None]:
    whole, silent = request("up"), request("up", "silence")
    incomplete = whole.replace(b"content-length: 0", b"content-length: 9")
    sent = {"idle": whole, "slow-head": whole[:20], "slow-request": incomplete, "slow-stream": silent}
    sent["slow-exchange"] = silent
    sent["old"] = whole
    for listener, data in sent.items():
        with RawConnection(mesh.ports[listener]) as client:
            client.send(data)
            client.read_rest()
    yield


@moves(*of("http", "no_cluster no_route rq_direct_response"))
def requests_that_go_nowhere(mesh: CountedMesh) -> Iterator[None]:
    for path in ("direct", "nowhere", "no-such-route/"):
        ask(mesh, path)
    yield


@moves("http.downstream_cx_drain_close")
def a_sidecar_that_drains(mesh: CountedMesh) -> Iterator[RunningSidecar]:
    with another_mesh() as other:
        with RawConnection(other.ports["web"]) as client:
            client.send(request("direct"))
            client.read_answer("POST")
            other.sidecar.ask("/drain_listeners?graceful", "POST")
            client.send(request("direct"))
            client.read_answer("POST")
        yield other.sidecar


@moves("listener.downstream_cx_overflow")
def a_sidecar_with_few_descriptors(mesh: CountedMesh) -> Iterator[RunningSidecar]:
    with another_mesh(max_descriptors=64) as other, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(RawConnection(other.ports["web"]))
        yield other.sidecar


@contextmanager
def another_mesh(**options: int) -> Iterator[CountedMesh]:
    with TemporaryDirectory() as folder, counted_mesh(Path(folder), **options) as started:
        yield started


@moves(
    *of("cluster", "upstream_cx_connect_fail upstream_cx_connect_timeout upstream_rq_pending_failure_eject"),
    *of("cluster", "upstream_cx_none_healthy lb_healthy_panic"),
    "host.cx_connect_fail",
)
def hosts_that_cannot_be_reached(mesh: CountedMesh) -> Iterator[None]:
    for cluster in ("gone", "vanishing", "empty", "panicking"):
        ask(mesh, cluster)
    yield


@moves(
    *of("cluster.outlier_detection", "ejections_active ejections_total ejections_enforced_total"),
    *of("cluster.outlier_detection", "ejections_consecutive_5xx ejections_detected_consecutive_5xx"),
    *of("cluster.outlier_detection", "ejections_enforced_consecutive_5xx ejections_overflow"),
    *of("cluster.outlier_detection", "ejections_detected_consecutive_gateway_failure"),
    *of("cluster.outlier_detection", "ejections_enforced_consecutive_gateway_failure"),
    *of("cluster.outlier_detection", "ejections_detected_consecutive_local_origin_failure"),
    *of("cluster.outlier_detection", "ejections_enforced_consecutive_local_origin_failure"),
)
def hosts_that_keep_failing(mesh: CountedMesh) -> Iterator[None]:
    for cluster in ("5xx", "gateway", "local-origin", "never-ejected"):
        ask(mesh, cluster, "503", "503")
    yield


@moves(
    *of("cluster", "upstream_rq_retry upstream_rq_retry_success upstream_rq_retry_limit_exceeded"),
    *of("cluster", "upstream_rq_retry_overflow retry_or_shadow_abandoned"),
)
def retries(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "retried", "503,ok")
    ask(mesh, "retried", "503")
    ask(mesh, "overflowing-retries", "503")
    with RawConnection(mesh.ports["web"]) as client:
        client.send(request("retried", "503", body=bytes(3_000_000)))
        assert client.read_answer("POST").status == 503
    yield


@moves(*of("cluster", "upstream_rq_timeout upstream_rq_per_try_timeout"), "host.rq_timeout")
def hosts_that_are_slow(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "late", "silence")
    ask(mesh, "tried-late", "silence")
    yield


@moves(*of("cluster", "upstream_cx_idle_timeout upstream_cx_max_duration_reached upstream_cx_max_requests"))
def connections_whose_use_is_limited(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "idle")
    ask(mesh, "old")
    ask(mesh, "one-request")
    yield


@moves(
    *of("cluster", "upstream_cx_overflow upstream_rq_pending_active upstream_rq_pending_overflow"),
    "cluster.upstream_rq_cancelled",
)
def requests_that_wait_for_a_connection(mesh: CountedMesh) -> Iterator[None]:
    with ExitStack() as stack:
        carried, waiting, refused = (stack.enter_context(RawConnection(mesh.ports["web"])) for _ in range(3))
        carried.send(request("narrow", "silence"))
        until_the_host_has_a_request(mesh)
        with RawConnection(mesh.ports["web"]) as impatient:
            impatient.send(request("narrow"))
            while ("cluster.upstream_rq_pending_active", "narrow") not in read(mesh.sidecar):
                time.sleep(0.01)
        while ("cluster.upstream_rq_pending_active", "narrow") in read(mesh.sidecar):
            time.sleep(0.01)
        waiting.send(request("narrow"))
        while ("cluster.upstream_rq_pending_active", "narrow") not in read(mesh.sidecar):
            time.sleep(0.01)
        refused.send(request("narrow"))
        assert refused.read_answer("POST").status == 503
        yield


@moves(*of("cluster", "upstream_rq_active_overflow"))
def more_requests_than_may_be_active(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "no-requests")
    yield


@moves(*of("cluster.ssl", "connection_error fail_verify_error fail_verify_san handshake"))
def hosts_that_speak_tls(mesh: CountedMesh) -> Iterator[None]:
    for cluster in ("trusted", "misnamed", "untrusted", "plaintext"):
        ask(mesh, cluster, "close")
    yield


@moves(
    *of("listener.ssl", "connection_error fail_verify_error fail_verify_no_cert fail_verify_san handshake")
)
def clients_that_speak_tls(mesh: CountedMesh) -> Iterator[None]:
    for file in (*mesh.certificates.clients.values(), None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(mesh.certificates.root)
        if file is not None:
            context.load_cert_chain(file)
        plain = socket.create_connection(("127.0.0.1", mesh.ports["tls"]))
        with plain, suppress(OSError), context.wrap_socket(plain) as secured:
            secured.sendall(request("up"))
            secured.recv(1)
    with RawConnection(mesh.ports["tls"]) as client:
        client.send(b"plaintext\r\n\r\n")
        client.read_rest()
    yield


@moves(
    *of("http", "downstream_cx_http2_total downstream_cx_http2_active downstream_rq_http2_total"),
    "cluster.upstream_cx_http2_total",
)
def a_request_over_http2(mesh: CountedMesh) -> Iterator[None]:
    ask(mesh, "over-http2")
    yield


@moves("http.downstream_rq_too_many_premature_resets")
def streams_that_are_reset_at_once(mesh: CountedMesh) -> Iterator[None]:
    client = H2Connection(H2Configuration(header_encoding=None))
    client.initiate_connection()
    for stream_id in range(1, 701, 2):
        client.send_headers(
            stream_id, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]
        )
        client.reset_stream(stream_id)
    with RawConnection(mesh.ports["web"]) as connection, suppress(ConnectionError):
        connection.send(client.data_to_send())
        connection.read_rest()
    yield


@moves(*of("listener", "downstream_pre_cx_active downstream_pre_cx_timeout no_filter_chain_match"))
def clients_that_say_nothing_or_something_else(mesh: CountedMesh) -> Iterator[None]:
    for listener, data in (("slow-hello", b""), ("sniffing", b"plaintext\r\n\r\n")):
        with RawConnection(mesh.ports[listener]) as client:
            client.send(data)
            client.read_rest()
    with RawConnection(mesh.ports["sniffing"]):
        yield


@moves(
    *of("tcp", "downstream_cx_total downstream_cx_rx_bytes_total downstream_cx_tx_bytes_total"),
    *of("tcp", "downstream_cx_no_route idle_timeout max_downstream_connection_duration"),
)
def streams(mesh: CountedMesh) -> Iterator[None]:
    for listener in ("tcp-nowhere", "tcp-idle", "tcp-old"):
        with RawConnection(mesh.ports[listener]) as client:
            client.read_rest()
    with RawConnection(mesh.ports["tcp"]) as client:
        client.send(request("up"))
        client.read_answer("POST")
    yield


@moves("tcp.downstream_cx_active")
def a_stream_under_way(mesh: CountedMesh) -> Iterator[None]:
    with RawConnection(mesh.ports["tcp"]):
        yield


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CountedMesh]:
    with counted_mesh(tmp_path_factory.mktemp("counted")) as started:
        yield started


def test_every_declared_counter_has_a_scenario() -> None:
    named = frozenset[str]().union(*(names for _, names in SCENARIOS.values()))
    assert declared() - named == set()
    assert named - declared() == set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_it_is_counted(name: str, mesh: CountedMesh) -> None:
    scenario, expected = SCENARIOS[name]
    mesh.upstream.take_seen()
    before = {} if name == AT_START else read(mesh.sidecar)
    with scenario(mesh) as other:
        sidecar, since = (mesh.sidecar, before) if other is None else (other, {})
        end_s = time.monotonic() + DEADLINE_S
        while missing := expected - moved(since, read(sidecar)):
            assert time.monotonic() < end_s, missing
            time.sleep(0.01)
    if other is None:
        while held := {key for key in read(mesh.sidecar) if key[0] in RETURN_TO_ZERO}:
            assert time.monotonic() < end_s, held
            time.sleep(0.01)
