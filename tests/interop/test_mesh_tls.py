"""Mesh TLS with the real Envoy on one side or on both, each with a certificate of the control plane's."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.backends import Backend, backend
from tests.support.certificates import TestAuthority
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.following_envoy import ProxyClient, following_envoy, identity, proxy_client
from tests.support.mesh_folder import MeshFolder
from tests.support.pods import pod, pod_resources, service, strict_mtls
from tests.support.processes import free_port

CLIENT, SERVER = "productpage", "reviews"
URL = f"http://{SERVER}:9080/hello"
CHANGE_S = 5.0


class Pod(Protocol):
    """``inbound`` takes what other pods send, ``outbound`` is an HTTP proxy."""

    @property
    def inbound(self) -> int: ...

    @property
    def outbound(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyPod:
    inbound: int
    outbound: int


@contextmanager
def envoy_pod(
    plane: RunningControlPlane, folder: MeshFolder, work_dir: Path, name: str, app_port: int
) -> Iterator[EnvoyPod]:
    """A stock Envoy as a sidecar: it follows over TLS, and proves by a token who it is."""
    inbound = free_port()
    folder.write(f"pod-{name}", *pod_resources(name, inbound, app_port))
    files = identity(plane, work_dir / name, "default", name)
    options: list[str | Path] = ["--xds-address", plane.xds_tls, "--ca-cert", plane.root_certificate]
    options += ["--token-file", files / "token", "--service-account", name, "--label", f"app={name}"]
    with following_envoy(plane, files, name, *options) as envoy:
        envoy.process.wait_for_port(inbound)
        yield EnvoyPod(inbound=inbound, outbound=envoy.http_proxy_port)
        assert envoy.complaints() == []


@contextmanager
def sidecar_pod(
    plane: RunningControlPlane, folder: MeshFolder, work_dir: Path, name: str, app_port: int
) -> Iterator[Pod]:
    with pod(plane, folder, work_dir, name, app_port) as running:
        running.wait_until_ready()
        yield running


MakePod = Callable[[RunningControlPlane, MeshFolder, Path, str, int], AbstractContextManager[Pod]]
PODS: dict[str, MakePod] = {"envoy": envoy_pod, "sidecar": sidecar_pod}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    plane: RunningControlPlane
    folder: MeshFolder
    app: Backend
    server: Pod
    client: ProxyClient

    def wait_for_status(self, status: int) -> Any:
        """The first answer of this status to the client's requests."""
        deadline = time.monotonic() + CHANGE_S
        while True:
            found, answer = self.client.get(URL)
            if found == status:
                return answer
            assert time.monotonic() < deadline, (found, answer)

    def server_runs_as(self, service_account: str) -> None:
        entry, sidecar = pod_resources(SERVER, self.server.inbound, self.app.server_port)
        entry["spec"]["serviceAccount"] = service_account
        self.folder.write(f"pod-{SERVER}", entry, sidecar)


@pytest.fixture(
    params=[("envoy", "envoy"), ("sidecar", "envoy"), ("envoy", "sidecar")],
    ids="-to-".join,
    scope="module",
)
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    client_kind, server_kind = request.param
    work_dir = tmp_path_factory.mktemp("mesh")
    folder = MeshFolder(work_dir / "config")
    folder.write("mesh", service(SERVER), service(CLIENT), strict_mtls())
    with ExitStack() as stack:
        plane = stack.enter_context(control_plane(folder.path, work_dir / "state"))
        app = stack.enter_context(backend("v1"))
        server = stack.enter_context(PODS[server_kind](plane, folder, work_dir, SERVER, app.server_port))
        client = stack.enter_context(PODS[client_kind](plane, folder, work_dir, CLIENT, app.server_port))
        requests = stack.enter_context(proxy_client(client.outbound))
        running = Mesh(plane=plane, folder=folder, app=app, server=server, client=requests)
        running.wait_for_status(200)
        yield running


def test_the_server_learns_who_calls(mesh: Mesh) -> None:
    status, answer = mesh.client.get(URL)
    assert (status, answer["path"]) == (200, "/hello")
    caller = answer["headers"]["x-forwarded-client-cert"]
    assert f"URI=spiffe://cluster.local/ns/default/sa/{CLIENT}" in caller


def test_bodies_of_many_tls_records_arrive_whole(mesh: Mesh) -> None:
    sent = b"0123456789abcdef" * 20_000
    for _ in range(10):
        status, answer = mesh.client.get(URL, sent)
        assert (status, answer["body"].encode()) == (200, sent)


def test_a_server_of_another_identity_is_not_talked_to(mesh: Mesh) -> None:
    mesh.server_runs_as("somebody-else")
    mesh.wait_for_status(503)
    answered = mesh.app.requests
    assert {mesh.client.get(URL)[0] for _ in range(5)} == {503}
    assert mesh.app.requests == answered
    mesh.server_runs_as(SERVER)
    mesh.wait_for_status(200)


def test_plaintext_is_refused(mesh: Mesh) -> None:
    answered = mesh.app.requests
    assert answer_to_get(mesh.server.inbound) == b""
    assert mesh.app.requests == answered


@pytest.mark.parametrize("certificate", ["none", "of another root"])
def test_a_caller_that_proves_nothing_is_refused(mesh: Mesh, tmp_path: Path, certificate: str) -> None:
    context = client_context()
    if certificate != "none":
        now = time.time()
        stranger = TestAuthority("stranger", not_before=now - 60, not_after=now + 3600, ca=False)
        context.load_cert_chain(*stranger.write(tmp_path, "stranger"))
    answered = mesh.app.requests
    assert answer_to_get(mesh.server.inbound, context) == b""
    assert mesh.app.requests == answered


def test_a_caller_with_a_certificate_of_the_mesh_is_let_in(mesh: Mesh, tmp_path: Path) -> None:
    files = identity(mesh.plane, tmp_path / "identity", "default", "curl")
    context = client_context()
    context.load_cert_chain(files / "cert-chain.pem", files / "key.pem")
    assert answer_to_get(mesh.server.inbound, context).startswith(b"HTTP/1.1 200 OK")


def client_context() -> ssl.SSLContext:
    """Any TLS client's, which asks for mesh TLS and takes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio"])
    return context


def answer_to_get(port: int, tls: ssl.SSLContext | None = None) -> bytes:
    """What comes back to a request: nothing if the connection is refused, at whatever stage."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        with tls.wrap_socket(connection) if tls else connection as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: reviews\r\nConnection: close\r\n\r\n")
            return stream.recv(4096)
    except (ConnectionError, ssl.SSLError):
        return b""
