"""Applications for injected pods, which do not know about the mesh, and a client that calls them from inside
a pod."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tests.support.kubernetes_api import Resource

NAMESPACE: Final = "apps"
IMAGE: Final = "python:3.13-slim"
POD_ONLY, LOOPBACK_ONLY, MYSQL, UNNAMED, DATAGRAMS = 8080, 8081, 3306, 7000, 7001
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

# Says who calls, on each of these ports: HTTP with the client's identity too, TCP before the client speaks.
# HTTP says at /name who answers. After /fail, its liveness probe at /live fails.
APPLICATION: Final = f"""
import os, socket, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    alive = True

    def do_GET(self):
        if self.path == "/fail":
            Handler.alive = False
        identity = "mTLS" if "URI=spiffe" in self.headers.get("x-forwarded-client-cert", "") else "plaintext"
        who = socket.gethostname() if self.path == "/name" else self.client_address[0]
        body = f"{{who}} {{identity}}".encode()
        self.send_response(200 if Handler.alive or self.path != "/live" else 500)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.do_GET()

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

# Calls each KIND:HOST:PORT[/PATH], and prints a line for each: the answer, another HTTP status than 200, or
# that it was disconnected.
CLIENT: Final = """
import http.client, socket, sys

def call(kind, host, port):
    port, _, path = port.partition("/")
    if kind in ("GET", "POST"):
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request(kind, "/" + path)
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else response.status
    with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect((host, int(port)))
        if kind == "udp":
            client.send(b"?")
        return client.recv(100).decode()

for target in sys.argv[1:]:
    try:
        print(call(*target.split(":")), flush=True)
    except ConnectionError:
        print("disconnected", flush=True)
"""


def calling(name: str, *targets: str) -> Resource:
    """A container that calls at once, and ends."""
    return {"name": name, "image": IMAGE, "command": ["python", "-c", CLIENT, *targets]}


def workload(
    kind: str,
    name: str,
    *,
    annotations: Mapping[str, str] = _NOTHING,
    labels: Mapping[str, str] = _NOTHING,
    **fields: Any,
) -> Resource:
    """A Deployment or a StatefulSet of the application. It is ready when its own probe passes."""
    own_address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    probe = {"httpGet": {"port": POD_ONLY, "path": "/live"}, "periodSeconds": 1, "timeoutSeconds": 10}
    container = {
        "name": "app",
        "image": IMAGE,
        "command": ["python", "-c", APPLICATION],
        "env": [own_address],
        "readinessProbe": probe,
        "livenessProbe": probe,
    }
    selected = {"app": name}
    template = {
        "metadata": {"labels": {**selected, **labels}, "annotations": dict(annotations)},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": selected}, "template": template, **fields},
    }


def job(
    name: str,
    container: Resource,
    *,
    init_containers: Sequence[Resource],
    annotations: Mapping[str, str] = _NOTHING,
) -> Resource:
    template = {
        "metadata": {"annotations": dict(annotations)},
        "spec": {
            "restartPolicy": "Never",
            "initContainers": list(init_containers),
            "containers": [container],
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"backoffLimit": 0, "template": template},
    }


def service(name: str, app: str, *ports: Resource, **fields: Any) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": app}, "ports": list(ports), **fields},
    }


def named_ports(**ports: int) -> list[Resource]:
    return [{"name": name, "port": port} for name, port in ports.items()]


def strict(app: str) -> Resource:
    """Only mesh TLS is let in."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": "STRICT"}},
    }


def proxy_config(**fields: Any) -> dict[str, str]:
    """The annotation."""
    return {"proxy.istio.io/config": json.dumps(fields)}
