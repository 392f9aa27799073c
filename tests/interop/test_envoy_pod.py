"""The real Envoy as the data plane of a pod: with the injector's bootstrap document, and our agent."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.admin_client import ask
from tests.support.backends import backend
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.envoy_pod import EnvoyPod, envoy_pod
from tests.support.following_envoy import ProxyClient
from tests.support.mesh_folder import MeshFolder
from tests.support.pods import RunningPod, pod, pod_resources, service, strict_mtls
from tests.support.probed_application import ProbedApplication, probed_application
from tests.support.processes import Child, accepts, free_port

ENVOY, SIDECAR = "reviews", "ratings"
LIFETIME_S = 4
RENEWALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    plane: RunningControlPlane
    envoy_pod: EnvoyPod
    envoy: Child
    inbound: int
    sidecar_pod: RunningPod
    application: ProbedApplication
    to_sidecar: ProxyClient
    to_envoy: ProxyClient


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    work_dir = tmp_path_factory.mktemp("mesh")
    folder = MeshFolder(work_dir / "config")
    folder.write("mesh", service(ENVOY), service(SIDECAR), strict_mtls())
    with ExitStack() as stack:
        plane = stack.enter_context(control_plane(folder.path, work_dir / "state"))
        app = stack.enter_context(backend("v1"))
        probed = stack.enter_context(probed_application())
        probed.pages["/metrics"] = ("text/plain", b"app_orders_total 7\n")
        inbound = free_port()
        folder.write(f"pod-{ENVOY}", *pod_resources(ENVOY, inbound, app.server_port))
        probers = {"/app-health/web/livez": {"httpGet": {"path": "/status/200", "port": probed.server_port}}}
        flags = ("--app-probers", json.dumps(probers), "--certificate-lifetime", str(LIFETIME_S))
        flags += ("--prometheus-scrape", json.dumps({"port": str(probed.server_port)}))
        of_envoy = stack.enter_context(envoy_pod(plane, work_dir, ENVOY, *flags))
        of_envoy.agent.wait_for(lambda: of_envoy.health("identity") == 200, "Envoy can start")
        assert of_envoy.health("ready") == 503, "Envoy does not run yet"
        envoy = stack.enter_context(of_envoy.envoy("--drain-time-s", "3"))
        envoy.wait_for(lambda: "rejected the proxy" in plane.process.output, "the token is read")
        of_envoy.envoy_token.write_text((of_envoy.folder / "token").read_text())
        of_sidecar = stack.enter_context(pod(plane, folder, work_dir, SIDECAR, app.server_port))
        of_sidecar.wait_until_ready()
        envoy.wait_for(lambda: of_envoy.health("ready") == 200, "the pod of Envoy is ready")
        envoy.wait_for(lambda: plane.synced(ENVOY), "Envoy has acknowledged everything")
        to_sidecar, to_envoy = ProxyClient(of_envoy.outbound), ProxyClient(of_sidecar.outbound)
        stack.callback(to_sidecar.close)
        stack.callback(to_envoy.close)
        for client, server in ((to_sidecar, SIDECAR), (to_envoy, ENVOY)):
            envoy.wait_for(partial(_reaches, client, server), f"{server} is reached")
        yield Mesh(
            plane=plane,
            envoy_pod=of_envoy,
            envoy=envoy,
            inbound=inbound,
            sidecar_pod=of_sidecar,
            application=probed,
            to_sidecar=to_sidecar,
            to_envoy=to_envoy,
        )


def _reaches(client: ProxyClient, server: str) -> bool:
    return client.get(f"http://{server}:9080/")[0] == 200


def test_both_directions_are_mutual_tls(mesh: Mesh) -> None:
    for client, server, caller in ((mesh.to_sidecar, SIDECAR, ENVOY), (mesh.to_envoy, ENVOY, SIDECAR)):
        status, answer = client.get(f"http://{server}:9080/hello")
        assert (status, answer["path"]) == (200, "/hello")
        proved = answer["headers"]["x-forwarded-client-cert"]
        assert f"URI=spiffe://cluster.local/ns/default/sa/{caller}" in proved


def test_a_renewed_certificate_is_used_without_a_failed_request(mesh: Mesh) -> None:
    seen: list[str] = []
    failed: list[object] = []

    def renewed_often() -> bool:
        for client, server in ((mesh.to_sidecar, SIDECAR), (mesh.to_envoy, ENVOY)):
            status, answer = client.get(f"http://{server}:9080/")
            if status != 200:
                failed.append(answer)
        (serial,) = set(mesh.envoy_pod.certificates())
        if serial not in seen:
            seen.append(serial)
        return len(seen) > RENEWALS

    mesh.envoy.wait_for(renewed_often, f"{RENEWALS} renewals", deadline_s=60)
    assert failed == []
    serial, response = _ask_inbound(mesh)
    assert response.startswith(b"HTTP/1.1 200")
    assert serial not in [earlier.lstrip("0") for earlier in seen[:-1]]


def _ask_inbound(mesh: Mesh) -> tuple[str, bytes]:
    """Sends a request to Envoy on a new connection, with the newest certificate. Returns the serial number of
    Envoy's certificate, and the head of the response."""
    folder = mesh.envoy_pod.identity_dir
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "root-cert.pem")
    context.load_cert_chain(folder / "cert-chain.pem", folder / "key.pem")
    context.set_alpn_protocols(["istio"])
    with (
        socket.create_connection(("127.0.0.1", mesh.inbound), timeout=10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        certificate = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        secured.sendall(b"GET / HTTP/1.1\r\nhost: reviews\r\n\r\n")
        return f"{certificate.serial_number:x}", secured.recv(4096)


def test_the_key_is_for_the_proxy_only(mesh: Mesh) -> None:
    key = (mesh.envoy_pod.identity_dir / "key.pem").resolve()
    assert key.stat().st_mode & 0o777 == 0o640
    assert key.parent.stat().st_mode & 0o777 == 0o750
    assert len(list(mesh.envoy_pod.identity_dir.glob("..[0-9]*"))) <= 2, "earlier keys are removed"


def test_the_agent_probes_the_application(mesh: Mesh) -> None:
    mesh.application.received.clear()
    assert mesh.envoy_pod.ask_metrics_port("/app-health/web/livez").status == 200
    assert [probe.source for probe in mesh.application.received] == ["127.0.0.6"]


def test_the_metrics_of_envoy_and_of_the_application_are_one_page(mesh: Mesh) -> None:
    page = mesh.envoy_pod.ask_metrics_port("/stats/prometheus?filter=server.live")
    assert page.status == 200
    lines = page.body.splitlines()
    assert lines[-1] == "app_orders_total 7"
    assert "envoy_server_live{} 1" in lines
    assert 'istio_agent_scrape_failures_total{type="envoy"} 0' in lines


def test_the_hook_drains_the_inbound_side_of_envoy(mesh: Mesh) -> None:
    """From here on Envoy stays drained."""
    hook = [sys.executable, "-m", "sidecar.drain", "--admin-port", str(mesh.envoy_pod.admin)]
    assert subprocess.run(hook, check=False).returncode == 0
    mesh.envoy.wait_for(
        lambda: b"connection: close" in _ask_inbound(mesh)[1], "clients are asked to disconnect"
    )
    assert mesh.to_envoy.get(f"http://{ENVOY}:9080/")[0] == 200, "others learn late that the pod ends"
    assert mesh.to_sidecar.get(f"http://{SIDECAR}:9080/")[0] == 200, "the application can still call others"
    assert mesh.envoy_pod.health("ready") == 200


def test_the_agent_ends_after_envoy(mesh: Mesh) -> None:
    agent = mesh.envoy_pod.agent
    agent.process.send_signal(signal.SIGTERM)
    agent.wait_for(lambda: mesh.envoy_pod.health("ready") == 503, "the agent drains")
    assert mesh.envoy_pod.ask_metrics_port("/app-health/web/livez").status == 200
    mesh.envoy.process.send_signal(signal.SIGTERM)
    assert mesh.envoy.process.wait(30) == 0
    assert agent.process.wait(30) == 0
    assert "Traceback" not in agent.output


def test_a_job_ends_envoy_and_the_agent(mesh: Mesh, tmp_path: Path) -> None:
    with envoy_pod(mesh.plane, tmp_path, "job") as job, job.envoy() as envoy:
        envoy.wait_for(lambda: accepts(job.admin), "Envoy has started")
        assert ask(job.metrics, "/quitquitquit", "POST").status == 200
        assert envoy.process.wait(30) == 0
        assert job.agent.process.wait(30) == 0
