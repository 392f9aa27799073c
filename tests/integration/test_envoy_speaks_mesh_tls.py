"""Two real Envoys, the builders' resources, our authority's certificates: a mesh without our sidecar."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from controlplane.ca.authority import Authority
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.ca.signer_files import load_or_create_root
from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from protos.spiffe import SpiffeId
from tests.support.envoy import envoy_command
from tests.support.meshes import mesh, service, sidecar_proxy, workload
from tests.support.processes import child, free_port
from tests.support.static_bootstrap import static_bootstrap

REVIEWS = "reviews.default.svc.cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    app: int
    inbound: int
    http_proxy: int


class App(BaseHTTPRequestHandler):
    """Answers with the path, and with who the sidecar says has called."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers.get('x-forwarded-client-cert', 'plaintext')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def app_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = Thread(target=server.serve_forever, name="app")
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def world(ports: Ports, mode: str, service_account: str) -> MeshSnapshot:
    """Reviews behind a sidecar, and a client that may go nowhere else."""
    inbound = {"number": ports.inbound, "protocol": "HTTP", "name": "http"}
    target = ServicePort(name="http", number=9080, protocol=Protocol.HTTP, target_port=ports.inbound)
    return mesh(
        (service("reviews", target), [workload("reviews", "127.0.0.1", service_account=service_account)]),
        virtual_services={
            "reviews": {
                "hosts": [REVIEWS],
                "http": [
                    {
                        "match": [{"uri": {"prefix": "/old"}}],
                        "rewrite": {"uri": "/new"},
                        "route": [{"destination": {"host": REVIEWS}}],
                    },
                    {"route": [{"destination": {"host": REVIEWS}}]},
                ],
            }
        },
        sidecars={
            "reviews": {
                "workloadSelector": {"labels": {"app": "reviews"}},
                "ingress": [{"port": inbound, "defaultEndpoint": f"127.0.0.1:{ports.app}"}],
            }
        },
        peer_authentications={"reviews": {"mtls": {"mode": mode}}},
        allow_any_outbound=False,
    )


def write_bootstrap(
    folder: Path, snapshot: MeshSnapshot, authority: Authority, app: str, http_proxy: int
) -> Path:
    cache = BuildCache()
    proxy = sidecar_proxy(
        app, ip="127.0.0.1", interception_mode=InterceptionMode.NONE, http_proxy_port=http_proxy
    )
    clusters = build_clusters(cache, snapshot, proxy)
    key = make_key()
    issued = authority.issue_workload(SpiffeId("cluster.local", "default", app), key.public_key())
    file = folder / f"{app}.json"
    file.write_text(
        static_bootstrap(
            listeners=build_listeners(cache, snapshot, proxy),
            routes=build_routes(cache, snapshot, proxy, ["http_proxy"]),
            clusters=clusters,
            endpoints=build_endpoints(cache, snapshot, proxy, clusters),
            certificate="".join(issued.chain_pem),
            private_key=private_key_pem(key).decode(),
            trust_bundle="".join(authority.trust_bundle_pem),
        )
    )
    return file


@contextlib.contextmanager
def two_envoys(folder: Path, app_port: int, mode: str, service_account: str = "reviews") -> Iterator[Ports]:
    ports = Ports(app=app_port, inbound=free_port(), http_proxy=free_port())
    snapshot = world(ports, mode, service_account)
    authority = Authority(load_or_create_root(folder / "ca", "cluster.local", time.time()))
    server = write_bootstrap(folder, snapshot, authority, "reviews", free_port())
    client = write_bootstrap(folder, snapshot, authority, "productpage", ports.http_proxy)
    with (
        child(envoy_command(server), folder / "server.log") as inbound,
        child(envoy_command(client), folder / "client.log") as outbound,
    ):
        inbound.wait_for_port(ports.inbound)
        outbound.wait_for_port(ports.http_proxy)
        yield ports


def get(port: int, target: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, response.read().decode()


def get_by_connect(port: int, authority: str, path: str) -> tuple[int, str]:
    """By hand: until Python 3.12 http.client says HTTP/1.0, which Envoy refuses."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        established = http.client.HTTPResponse(connection, method="CONNECT")
        established.begin()
        if established.status != 200:
            return established.status, ""
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read().decode()


def test_strict(tmp_path: Path, app_port: int) -> None:
    with two_envoys(tmp_path, app_port, "STRICT") as ports:
        status, body = get(ports.http_proxy, "http://reviews:9080/old/1")
        assert status == 200, body
        assert body.startswith("/new/1 ")
        assert "URI=spiffe://cluster.local/ns/default/sa/productpage" in body
        status, body = get_by_connect(ports.http_proxy, "reviews.default:9080", "/old/2")
        assert (status, body.split(" ")[0]) == (200, "/old/2")  # raw bytes: no route rewrites them
        assert "sa/productpage" in body
        assert get(ports.http_proxy, "http://unknown.example/")[0] == 502
        assert get_by_connect(ports.http_proxy, "unknown.example:80", "/")[0] == 502
        with pytest.raises((http.client.HTTPException, OSError)):
            get(ports.inbound, "/plaintext")


def test_permissive(tmp_path: Path, app_port: int) -> None:
    with two_envoys(tmp_path, app_port, "PERMISSIVE") as ports:
        assert "sa/productpage" in get(ports.http_proxy, "http://reviews:9080/")[1]
        assert get(ports.inbound, "/direct") == (200, "/direct plaintext")


def test_disable(tmp_path: Path, app_port: int) -> None:
    with two_envoys(tmp_path, app_port, "DISABLE") as ports:
        assert get(ports.http_proxy, "http://reviews:9080/") == (200, "/ plaintext")


def test_a_server_of_another_identity_is_refused(tmp_path: Path, app_port: int) -> None:
    with two_envoys(tmp_path, app_port, "STRICT", service_account="somebody-else") as ports:
        assert get(ports.http_proxy, "http://reviews:9080/")[0] == 503
