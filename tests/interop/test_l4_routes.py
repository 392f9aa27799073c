"""Routes of VirtualServices for TLS and TCP, from the resource to the host that answers, through the sidecar
and through the real Envoy: TLS passes unopened by its server name, connections are shared by weight."""

from __future__ import annotations

import math
import socket
import socketserver
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from google.protobuf.json_format import MessageToJson

from controlplane.model.service import Protocol, ServicePort
from controlplane.networking import build_clusters, build_listeners
from controlplane.networking.build_cache import BuildCache
from tests.support.envoy import envoy_command
from tests.support.meshes import external_service, mesh, port, sidecar_proxy, workload
from tests.support.processes import child, free_port

HOSTS = ("shop", "v1", "v2")
TIMEOUT_S = 10.0


class Host(socketserver.ThreadingTCPServer):
    """Answers each connection with its name: in plaintext, or in TLS with its own certificate."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name: str, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.name = name.encode()
        self.context = context


class Answer(socketserver.BaseRequestHandler):
    server: Host

    def handle(self) -> None:
        connection = self.request
        if self.server.context is not None:
            connection = self.server.context.wrap_socket(connection, server_side=True)
        with connection:
            connection.sendall(self.server.name)


@contextmanager
def running(host: Host) -> Iterator[int]:
    """Gives its port."""
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host.server_address[1]
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def to(host: str, number: int, weight: int = 0) -> dict[str, Any]:
    return {"destination": {"host": f"{host}.test", "port": {"number": number}}, "weight": weight}


def bootstrap(tls: int, tcp: int, targets: dict[str, tuple[int, int]]) -> str:
    """Listeners on the ports ``tls`` and ``tcp``, where interception would redirect to them. ``targets``: the
    ports of each host, for TLS and TCP."""

    def ports(name: str) -> list[ServicePort]:
        tls_target, tcp_target = targets[name]
        ports = port(tls, Protocol.TLS), port(tcp, Protocol.TCP)
        return [replace(ports[0], target_port=tls_target), replace(ports[1], target_port=tcp_target)]

    services = [
        (
            external_service(
                f"{name}.test", *ports(name), addresses=("127.0.0.1",) if name == "shop" else ()
            ),
            [workload(name, "127.0.0.1", mesh_tls=False)],
        )
        for name in HOSTS
    ]
    shop = {
        "hosts": ["shop.test", "*.shop.test"],
        "tls": [
            {"match": [{"sniHosts": ["a.shop.test"]}], "route": [to("v1", tls)]},
            {"match": [{"sniHosts": ["*.shop.test"]}], "route": [to("v2", tls)]},
        ],
        "tcp": [{"match": [{"port": tcp}], "route": [to("v1", tcp, 75), to("v2", tcp, 25)]}],
    }
    snapshot, own = mesh(*services, virtual_services={"shop": shop}), sidecar_proxy()
    listeners = build_listeners(BuildCache(), snapshot, own)
    chosen = [listeners[f"127.0.0.1_{number}"] for number in (tls, tcp)]
    for listener in chosen:
        listener.ClearField("bind_to_port")
    clusters = build_clusters(BuildCache(), snapshot, own).values()
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}}
    resources = {"listeners": chosen, "clusters": clusters}
    return MessageToJson(
        Bootstrap(node={"id": own.id, "cluster": "a"}, admin=admin, static_resources=resources)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    tls: int
    tcp: int
    trust: ssl.SSLContext

    def ask(self, server_name: str | None) -> str:
        """Which host answers in TLS, its certificate verified for the name."""
        with (
            socket.create_connection(("127.0.0.1", self.tls), TIMEOUT_S) as plain,
            self.trust.wrap_socket(plain, server_hostname=server_name) as client,
        ):
            return client.recv(100).decode()

    def ask_plain(self) -> str:
        with socket.create_connection(("127.0.0.1", self.tcp), TIMEOUT_S) as client:
            return client.recv(100).decode()


@pytest.fixture(scope="module", params=["sidecar", "envoy"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    authority, folder = trustme.CA(), tmp_path_factory.mktemp(request.param)
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    names = {"shop": "other.test", "v1": "a.shop.test", "v2": "b.shop.test"}
    tls, tcp = free_port(), free_port()
    targets: dict[str, tuple[int, int]] = {}
    with ExitStack() as stack:
        for host in HOSTS:
            serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(names[host]).configure_cert(serving)
            secured, plain = Host(host, serving), Host(host)
            targets[host] = (stack.enter_context(running(secured)), stack.enter_context(running(plain)))
        file = folder / "bootstrap.json"
        file.write_text(bootstrap(tls, tcp, targets))
        process = stack.enter_context(child(command(request.param, file), folder / "log"))
        process.wait_for_port(tls)
        process.wait_for_port(tcp)
        yield Proxy(tls=tls, tcp=tcp, trust=trust)


def command(proxy: str, file: Path) -> list[str]:
    if proxy == "envoy":
        return envoy_command(file)
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    return [sys.executable, "-m", "sidecar", "-c", str(file), *options]


@pytest.mark.parametrize(
    ("server_name", "host"), [("a.shop.test", "v1"), ("b.shop.test", "v2"), ("other.test", "shop")]
)
def test_tls_reaches_the_host_of_its_server_name_unopened(proxy: Proxy, server_name: str, host: str) -> None:
    assert proxy.ask(server_name) == host


def test_tls_without_a_server_name_reaches_the_service_itself(proxy: Proxy) -> None:
    trust = proxy.trust
    trust.check_hostname = False
    try:
        assert proxy.ask(None) == "shop"
    finally:
        trust.check_hostname = True


def test_connections_are_shared_by_weight(proxy: Proxy) -> None:
    count, share = 400, 0.25
    seen = Counter(proxy.ask_plain() for _ in range(count))
    assert set(seen) == {"v1", "v2"}
    assert abs(seen["v2"] - count * share) < 4 * math.sqrt(count * share * (1 - share))
