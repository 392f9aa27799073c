"""A client's pod, a server's pod and a control plane, as an operator runs them."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest

from tests.support.backends import backend
from tests.support.pods import OPENER, RunningPod

MakeTwoPods = Callable[..., AbstractContextManager[Any]]
URL = "http://server:9080/hello"
GIB = 1024**3
MIB = 1024**2


def connect(client: RunningPod) -> closing[http.client.HTTPConnection]:
    """To the sidecar of the client's pod, as its application is told to by HTTP_PROXY."""
    return closing(http.client.HTTPConnection("127.0.0.1", client.outbound, timeout=20))


def ask(client: RunningPod, connection: http.client.HTTPConnection | None = None) -> dict[str, Any]:
    """What the server's application saw of a request through both sidecars."""
    if connection is None:
        with connect(client) as fresh:
            return ask(client, fresh)
    connection.request("GET", URL, headers={"host": "server:9080"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def own_certificate(pod: RunningPod) -> dict[str, Any]:
    """The leaf that the sidecar shows, as its `/certs` tells."""
    certificates = json.loads(pod.admin_get("/certs"))["certificates"]
    (leaf,) = [entry["cert_chain"][0] for entry in certificates if entry["cert_chain"]]
    found: dict[str, Any] = leaf
    return found


def test_a_request_crosses_both_sidecars_by_mutual_tls(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        assert ask(mesh.client)["path"] == "/hello"
        metrics = mesh.server.admin_get("/stats/prometheus")
        (requests,) = [line for line in metrics.splitlines() if line.startswith("istio_requests_total{")]
        assert 'source_principal="spiffe://cluster.local/ns/default/sa/client"' in requests
        assert 'connection_security_policy="mutual_tls"' in requests
        assert 'destination_service="server.default.svc.cluster.local"' in requests
        ours = mesh.client.admin_get("/stats/prometheus")
        (sent,) = [line for line in ours.splitlines() if line.startswith("istio_requests_total{")]
        assert 'destination_principal="spiffe://cluster.local/ns/default/sa/server"' in sent
        assert 'destination_workload="server"' in sent


def test_plaintext_is_refused_where_mtls_is_strict(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        with closing(http.client.HTTPConnection("127.0.0.1", mesh.server.inbound, timeout=10)) as connection:
            connection.request("GET", "/hello")
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                connection.getresponse()
        assert app.requests == 0


def test_every_admin_endpoint_answers_and_no_key_is_shown(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        ask(mesh.client)
        get = mesh.client.admin_get
        pages = {
            path: get(path)
            for path in (
                "/help", "/certs", "/clusters", "/clusters?format=json", "/config_dump", "/listeners",
                "/config_dump?include_eds", "/listeners?format=json", "/ready", "/server_info", "/stats",
                "/stats?format=json", "/stats?usedonly&filter=upstream_rq", "/stats/prometheus",
            )
        }  # fmt: skip
        assert all("PRIVATE KEY" not in page for page in pages.values())
        assert pages["/ready"] == "LIVE\n"
        dump = {
            config["@type"].rpartition(".")[2]: config
            for config in json.loads(pages["/config_dump"])["configs"]
        }
        assert {
            "BootstrapConfigDump",
            "ClustersConfigDump",
            "ListenersConfigDump",
            "RoutesConfigDump",
        } <= dump.keys()
        assert "EndpointsConfigDump" in pages["/config_dump?include_eds"]
        names = [
            cluster["name"] for cluster in json.loads(pages["/clusters?format=json"])["cluster_statuses"]
        ]
        assert "outbound|9080||server.default.svc.cluster.local" in names
        assert own_certificate(mesh.client)["subject_alt_names"] == [
            {"uri": "spiffe://cluster.local/ns/default/sa/client"}
        ]
        assert json.loads(pages["/server_info"])["state"] == "LIVE"
        assert ".upstream_rq_200" not in pages["/stats"]
        assert "upstream_rq_total: 1" in pages["/stats?usedonly&filter=upstream_rq"]


def test_the_log_level_changes_by_post_alone(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        address = f"http://127.0.0.1:{mesh.client.admin}/logging?level=debug"
        with pytest.raises(OSError, match="405"):
            OPENER.open(address)
        with OPENER.open(address, data=b"") as answer:
            assert "sidecar.listener" in answer.read().decode()
        with pytest.raises(OSError, match="400"):
            OPENER.open(address.replace("debug", "loud"), data=b"")


def test_quitquitquit_ends_the_sidecar(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        OPENER.open(f"http://127.0.0.1:{mesh.client.admin}/quitquitquit", data=b"").close()
        assert mesh.client.sidecar.process.wait(10) == 0


def test_certificates_rotate_under_load_without_a_failed_request(two_pods: MakeTwoPods) -> None:
    """Five-second certificates are renewed every 2.5 s; connections made before go on."""
    with backend("v1") as app, two_pods(app.server_port, "--certificate-lifetime", "5") as mesh:

        def serial() -> str:
            return str(own_certificate(mesh.client)["serial_number"])

        serials, requests, end_s = {serial()}, 0, time.monotonic() + 30
        with connect(mesh.client) as kept:
            while len(serials) < 4 and time.monotonic() < end_s:
                for _ in range(20):
                    ask(mesh.client, kept)  # asserts 200
                    ask(mesh.client)
                    requests += 2
                serials.add(serial())
        assert len(serials) == 4, f"{len(serials)} certificates in 30 s"
        assert app.requests == requests


def test_sigterm_serves_open_connections_and_closes_them(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port, "--drain-time-s", "10") as mesh:
        with connect(mesh.client) as connection:
            ask(mesh.client, connection)
            mesh.client.sidecar.process.send_signal(signal.SIGTERM)
            mesh.client.sidecar.wait_for(lambda: not mesh.client.is_ready(), "it is not ready any more")
            # It still accepts, and still answers on the connection that was there; that one is then closed.
            assert ask(mesh.client)["path"] == "/hello"
            connection.request("GET", URL)
            response = connection.getresponse()
            assert (response.status, response.getheader("connection")) == (200, "close")
            response.read()
        assert mesh.client.sidecar.process.wait(15) == 0


def test_traffic_continues_without_the_control_plane(two_pods: MakeTwoPods) -> None:
    with backend("v1") as app, two_pods(app.server_port) as mesh:
        mesh.plane.process.process.kill()
        mesh.plane.process.process.wait()
        for _ in range(20):
            ask(mesh.client)


def test_a_gibibyte_goes_through_both_sidecars_in_bounded_memory(two_pods: MakeTwoPods) -> None:
    received = []

    def count(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65536)
            total = len(head) - head.index(b"\r\n\r\n") - 4
            buffer = bytearray(MIB)
            while total < GIB:
                total += connection.recv_into(buffer)
            received.append(total)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        counting = threading.Thread(target=count, args=(listening,))
        counting.start()
        with two_pods(listening.getsockname()[1]) as mesh:
            with socket.create_connection(("127.0.0.1", mesh.client.outbound), timeout=100) as upload:
                upload.sendall(
                    b"POST http://server:9080/upload HTTP/1.1\r\nhost: server:9080\r\n"
                    b"content-length: %d\r\n\r\n" % GIB
                )
                chunk = bytes(MIB)
                for _ in range(GIB // MIB):
                    upload.sendall(chunk)
                assert upload.recv(65536).startswith(b"HTTP/1.1 200 ")
            peaks = {
                pod.name: pod.sidecar.resident_bytes(peak=True) // MIB for pod in (mesh.client, mesh.server)
            }
        counting.join()
    assert received == [GIB]
    assert all(peak < 100 for peak in peaks.values()), peaks
