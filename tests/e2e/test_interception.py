"""Applications that do not know about the mesh, in injected pods: one with REDIRECT, one with TPROXY."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.injected_mesh import InjectedMesh, injected_mesh
from tests.support.kubernetes_api import Resource

pytestmark = pytest.mark.timeout(300)

NAMESPACE = "apps"
POD_ONLY, LOOPBACK_ONLY, MYSQL, UNNAMED, DATAGRAMS = 8080, 8081, 3306, 7000, 7001
MODES = {"redirect": "REDIRECT", "tproxy": "TPROXY"}

# Says who calls, on each of these ports: HTTP with the client's identity too, TCP before the client speaks.
APP = f"""
import os, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        identity = "mTLS" if "URI=spiffe" in self.headers.get("x-forwarded-client-cert", "") else "plaintext"
        body = f"{{self.client_address[0]}} {{identity}}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def greet(listener):
    while True:
        connection, address = listener.accept()
        connection.sendall(address[0].encode())
        connection.close()

own = os.environ["POD_IP"]
for port in ({MYSQL}, {UNNAMED}):
    threading.Thread(target=greet, args=[socket.create_server((own, port))]).start()
for host, port in ((own, {POD_ONLY}), ("127.0.0.1", {LOOPBACK_ONLY})):
    threading.Thread(target=ThreadingHTTPServer((host, port), Handler).serve_forever).start()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((own, {DATAGRAMS}))
while True:
    _, address = datagrams.recvfrom(100)
    datagrams.sendto(address[0].encode(), address)
"""

# Calls each KIND:HOST:PORT, and prints a line for each.
CLIENT = """
import http.client, socket, sys

for target in sys.argv[1:]:
    kind, host, port = target.split(":")
    if kind == "http":
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/")
        response = connection.getresponse()
        print(response.read().decode() if response.status == 200 else response.status)
        continue
    with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect((host, int(port)))
        if kind == "udp":
            client.send(b"?")
        print(client.recv(100).decode())
"""


def deployment(name: str, mode: str) -> Resource:
    own_address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "app",
        "image": "python:3.13-slim",
        "command": ["python", "-c", APP],
        "env": [own_address],
        "readinessProbe": {"httpGet": {"port": POD_ONLY}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": name}, "annotations": {"sidecar.istio.io/interceptionMode": mode}},
        "spec": {"containers": [container]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


def service(name: str, app: str, *ports: Resource) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": list(ports)},
    }


def resources(app: str, mode: str) -> Iterator[Resource]:
    yield deployment(app, mode)
    named = {"http": POD_ONLY, "http-loopback": LOOPBACK_ONLY, "mysql": MYSQL}
    yield service(app, app, *({"name": name, "port": port} for name, port in named.items()))
    yield service(f"{app}-unnamed", app, {"port": UNNAMED})


@pytest.fixture(scope="module")
def mesh() -> Iterator[InjectedMesh]:
    with injected_mesh() as mesh:
        mesh.create_namespace(NAMESPACE, istio_injection="enabled")
        mesh.apply(*(each for app, mode in MODES.items() for each in resources(app, mode)))
        mesh.rolled_out(NAMESPACE)
        yield mesh


def address(mesh: InjectedMesh, app: str) -> str:
    (pod,) = mesh.pods(NAMESPACE, f"app={app}")
    return str(pod["status"]["podIP"])


def call(mesh: InjectedMesh, caller: str, *targets: str) -> list[str]:
    inside = ("exec", "--namespace", NAMESPACE, f"deployment/{caller}", "--container", "app", "--")
    return mesh.kubectl(*inside, "python", "-c", CLIENT, *targets).splitlines()


@pytest.mark.parametrize("caller", MODES)
@pytest.mark.parametrize("app", MODES)
def test_services_are_called_with_mtls_and_tproxy_shows_the_client(
    mesh: InjectedMesh, caller: str, app: str
) -> None:
    """Where caller and application are the same, it calls its own Service."""
    client = address(mesh, caller) if app == "tproxy" else "127.0.0.6"
    targets = (f"http:{app}:{POD_ONLY}", f"tcp:{app}:{MYSQL}", f"tcp:{app}-unnamed:{UNNAMED}")
    assert call(mesh, caller, *targets) == [f"{client} mTLS", client, client]


@pytest.mark.parametrize("app", MODES)
def test_an_application_on_loopback_is_private_to_its_pod(mesh: InjectedMesh, app: str) -> None:
    other = "redirect" if app == "tproxy" else "tproxy"
    assert call(mesh, other, f"http:{app}:{LOOPBACK_ONLY}") == ["503"]
    assert call(mesh, app, f"http:localhost:{LOOPBACK_ONLY}") == ["127.0.0.1 plaintext"]


@pytest.mark.parametrize("app", MODES)
def test_connections_inside_the_pod_and_datagrams_are_direct(mesh: InjectedMesh, app: str) -> None:
    own, other = address(mesh, app), address(mesh, "redirect" if app == "tproxy" else "tproxy")
    assert call(mesh, app, f"http:{own}:{POD_ONLY}", f"udp:{other}:{DATAGRAMS}") == [f"{own} plaintext", own]
