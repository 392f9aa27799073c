"""Ports under a real istiod of other protocols than HTTP/1: between the sidecar and an Envoy, with TPROXY."""

from __future__ import annotations

import re
from typing import Final

import httpx
import pytest

from tests.support.istiod_mesh import IstiodMesh
from tests.support.istiod_pods import ENVOY, under_istiod
from tests.support.kubernetes_api import Resource

pytestmark = pytest.mark.timeout(300)

NAMESPACE: Final = "echo"
PROXIES: Final = ("sidecar", "envoy")
PORT: Final = 7000
UNDECLARED_PORT: Final = 7001
GRPC_PORT: Final = 7002
GREETING: Final = "welcome"
SIZE: Final = 300_000
# It speaks first, and then returns what it gets, until the client has ended.
SERVER: Final = f"""
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"{GREETING}")
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("0.0.0.0", {PORT}), Echo).serve_forever()
"""
# Prints the greeting, and how many of its bytes came back.
CLIENT: Final = f"""
import socket, sys, threading
with socket.create_connection((sys.argv[1], {PORT}), timeout=20) as client:
    greeting = client.recv({len(GREETING)}, socket.MSG_WAITALL)
    sent = bytes(range(250)) * {SIZE // 250}
    def send():
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    received = b"".join(iter(lambda: client.recv(65536), b""))
    print(greeting.decode(), len(received), received == sent)
"""

HTTP_CLIENT: Final = f"""
import sys, urllib.request
print(urllib.request.urlopen(f"http://{{sys.argv[1]}}:{UNDECLARED_PORT}/etc/hostname", timeout=20).status)
"""
GRPC_SERVER: Final = f"""
import grpc
from concurrent.futures import ThreadPoolExecutor
def say(request, context):
    context.set_trailing_metadata((("trailer", "sent"),))
    return request
methods = {{
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Chat": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
}}
server = grpc.server(ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
server.add_insecure_port("0.0.0.0:{GRPC_PORT}")
server.start()
server.wait_for_termination()
"""
GRPC_CLIENT: Final = f"""
import grpc, sys
with grpc.insecure_channel(f"{{sys.argv[1]}}:{GRPC_PORT}") as channel:
    said, call = channel.unary_unary("/echo.Echo/Say").with_call(b"hello", timeout=20, wait_for_ready=True)
    chat = channel.stream_stream("/echo.Echo/Chat")(iter([b"a", b"b", b"c"]), timeout=20)
    print(said.decode(), b"".join(chat).decode(), dict(call.trailing_metadata())["trailer"])
"""


def deployment(proxy: str) -> Resource:
    container = {
        "name": "app",
        "image": "python:3.13-slim",
        "command": ["python", "-c", SERVER],
        "ports": [{"name": "tcp", "containerPort": PORT}],
    }
    serve = ["python", "-m", "http.server", "--directory", "/", str(UNDECLARED_PORT)]
    web = {"name": "web", "image": "python:3.13-slim", "command": serve}
    grpc = {"name": "grpc", "image": "python:3.13-slim", "command": ["python", "-c", GRPC_SERVER]}
    labels = {"app": proxy, "version": "v1"}
    annotations = dict(ENVOY) if proxy == "envoy" else {}
    template = {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {"containers": [container, web, grpc], "terminationGracePeriodSeconds": 1},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": proxy, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def service(proxy: str) -> Resource:
    ports = {"tcp": PORT, "undeclared": UNDECLARED_PORT, "grpc": GRPC_PORT}
    spec = {
        "selector": {"app": proxy},
        "ports": [{"name": name, "port": port} for name, port in ports.items()],
    }
    metadata = {"name": proxy, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


STRICT: Final = {
    "apiVersion": "security.istio.io/v1",
    "kind": "PeerAuthentication",
    "metadata": {"name": "default", "namespace": NAMESPACE},
    "spec": {"mtls": {"mode": "STRICT"}},
}


@pytest.fixture(scope="module")
def mesh(istiod: IstiodMesh) -> IstiodMesh:
    istiod.kubectl("create", "namespace", NAMESPACE)
    deployments = [under_istiod(deployment(proxy), "TPROXY") for proxy in PROXIES]
    istiod.apply(STRICT, *map(service, PROXIES), *deployments)
    istiod.rolled_out(NAMESPACE)
    return istiod


@pytest.mark.parametrize("callee", PROXIES)
@pytest.mark.parametrize("caller", PROXIES)
def test_bytes_pass_unchanged_between_both_proxies(mesh: IstiodMesh, caller: str, callee: str) -> None:
    assert run(mesh, caller, CLIENT, callee).split() == [GREETING, str(SIZE), "True"]


@pytest.mark.parametrize("callee", PROXIES)
@pytest.mark.parametrize("caller", PROXIES)
def test_http_passes_on_a_port_that_declares_no_protocol(mesh: IstiodMesh, caller: str, callee: str) -> None:
    assert run(mesh, caller, HTTP_CLIENT, callee) == "200\n"
    if caller == "sidecar":
        sent = [each for each in series(mesh, "istio_requests_total") if each["reporter"] == "source"]
        assert callee in {each["destination_workload"] for each in sent}


def test_a_sidecar_detects_http_by_what_another_offers(mesh: IstiodMesh) -> None:
    """By the names of Istio's filter `alpn`: the bytes are encrypted."""
    run(mesh, "sidecar", HTTP_CLIENT, "sidecar")
    received = [
        each
        for each in series(mesh, "istio_requests_total")
        if each["reporter"] == "destination" and each["request_protocol"] == "http"
    ]
    assert {each["source_workload"] for each in received} == {"sidecar"}
    assert {each["connection_security_policy"] for each in received} == {"mutual_tls"}


def test_both_ends_of_a_connection_are_known_by_their_certificates(mesh: IstiodMesh) -> None:
    found = series(mesh, "istio_tcp_connections_opened_total")
    received = [each for each in found if each["reporter"] == "destination"]
    assert received
    for each in received:
        assert each["source_principal"] == f"spiffe://cluster.local/ns/{NAMESPACE}/sa/default"
        assert each["connection_security_policy"] == "mutual_tls"
        assert each["destination_workload"] == "sidecar"
    sent = {each["destination_workload"] for each in found if each["reporter"] == "source"}
    assert "envoy" in sent


@pytest.mark.parametrize("callee", PROXIES)
@pytest.mark.parametrize("caller", PROXIES)
def test_calls_of_grpc_pass_with_their_trailers(mesh: IstiodMesh, caller: str, callee: str) -> None:
    assert run(mesh, caller, GRPC_CLIENT, callee) == "hello abc sent\n"
    if "sidecar" not in (caller, callee):
        return
    reporter = "source" if caller == "sidecar" else "destination"
    counted = [
        each
        for each in series(mesh, "istio_requests_total")
        if each["request_protocol"] == "grpc" and each["reporter"] == reporter
    ]
    assert callee in {each["destination_workload"] for each in counted}
    assert {each["grpc_response_status"] for each in counted} == {"0"}


def run(mesh: IstiodMesh, pod: str, program: str, *arguments: str) -> str:
    """The output of a Python program in a pod."""
    where = (f"deployment/{pod}", f"-n{NAMESPACE}", "--container=app")
    return mesh.kubectl("exec", *where, "--", "python", "-c", program, *arguments)


def series(mesh: IstiodMesh, metric: str) -> list[dict[str, str]]:
    """The labels of a metric of the sidecar."""
    (pod,) = mesh.pods(NAMESPACE, "app=sidecar")
    page = httpx.get(f"http://{pod['status']['podIP']}:15020/stats/prometheus", trust_env=False).text
    labels = re.findall(rf"^{metric}\{{(.*)\}} ", page, re.MULTILINE)
    return [dict(re.findall(r'(\w+)="([^"]*)"', each)) for each in labels]
