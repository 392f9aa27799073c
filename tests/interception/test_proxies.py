"""The generated configuration behind real rules, in our sidecar and in the real Envoy: both behave alike.

The proxy is root with the group 1337, as with TPROXY in a cluster: other users cannot read this folder.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from google.protobuf.json_format import MessageToJson

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol
from controlplane.networking import build_clusters, build_listeners
from controlplane.networking.build_cache import BuildCache
from tests.support.envoy import envoy_command
from tests.support.intercepted_pod import InterceptedPod
from tests.support.meshes import mesh, port, service, sidecar_proxy, workload
from tests.support.network_namespaces import (
    APPLICATION,
    V4,
    V6,
    NetworkNamespace,
    Owner,
    Side,
)
from tests.support.processes import child

POD_ONLY, LOOPBACK_ONLY, ANYWHERE, GREETING, UNKNOWN = 8080, 8081, 8082, 3306, 9999
PROXY = Owner(0, 1337)
OTHER_CLIENT = {V4: "10.77.0.9", V6: "fd77::9"}


class SaysWhoCalls(BaseHTTPRequestHandler):
    """Answers with the address of the client, and keeps the connection open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.client_address[0].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def get(client: socket.socket) -> tuple[int, str]:
    """Status and body."""
    connection = HTTPConnection("web")
    connection.sock = client
    connection.request("GET", "/")
    response = connection.getresponse()
    return response.status, response.read().decode()


@contextmanager
def http_server(listener: socket.socket) -> Iterator[None]:
    listener.settimeout(None)
    server = ThreadingHTTPServer(("", 0), SaysWhoCalls, bind_and_activate=False)
    server.socket.close()
    server.socket, server.server_name, server.server_port = listener, "test", 0
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()


@contextmanager
def greeting_server(listener: socket.socket) -> Iterator[None]:
    """A server-first protocol: it says who calls, before the client sends anything."""

    def greet() -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(address[0].encode())

    listener.settimeout(None)
    thread = threading.Thread(target=greet)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def bootstrap(side: Side, mode: InterceptionMode) -> str:
    ports = [port(number, name=f"http-{number}") for number in (POD_ONLY, LOOPBACK_ONLY, ANYWHERE)]
    web = service("web", *ports, port(GREETING, Protocol.TCP))
    snapshot = mesh(
        (web, [workload("web", side.pod)]), peer_authentications={"off": {"mtls": {"mode": "DISABLE"}}}
    )
    own = sidecar_proxy("web", ip=side.pod, interception_mode=mode)
    listeners = build_listeners(BuildCache(), snapshot, own)
    clusters = build_clusters(BuildCache(), snapshot, own)
    # Envoy inspects also ports that need no inspection, and a server-first protocol waits for its end.
    listeners["virtualInbound"].listener_filters_timeout.FromMilliseconds(100)
    resources = {
        "listeners": [listeners[name] for name in ("virtualInbound", "virtualOutbound")],
        "clusters": [cluster for name, cluster in clusters.items() if not name.startswith("outbound|")],
    }
    admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}}
    node = {"id": own.id, "cluster": "web"}
    return MessageToJson(Bootstrap(node=node, admin=admin, static_resources=resources))


class ProxiedPod:
    def __init__(
        self, pod: NetworkNamespace, outside: NetworkNamespace, side: Side, mode: InterceptionMode
    ) -> None:
        self.pod, self.outside, self.side, self.mode = pod, outside, side, mode

    @property
    def expected_client(self) -> str:
        """The client that the application sees."""
        return self.side.outside if self.mode is InterceptionMode.TPROXY else self.side.inbound_source

    def connect(self, number: int, *, source: str = "") -> socket.socket:
        client = self.outside.socket(self.side, socket.SOCK_STREAM, APPLICATION)
        client.bind((source or self.side.outside, 0))
        try:
            client.connect((self.side.pod, number))
        except OSError:
            client.close()
            raise
        return client

    def listens(self) -> bool:
        """Whether the proxy does. A connection inside the pod is direct; TPROXY drops others until then."""
        with self.pod.socket(self.side, socket.SOCK_STREAM, APPLICATION) as client:
            return client.connect_ex((self.side.loopback, 15006)) == 0

    def get(self, number: int, *, source: str = "") -> tuple[int, str]:
        with self.connect(number, source=source) as client:
            return get(client)

    def receive(self, number: int) -> str:
        with self.connect(number) as client:
            return client.recv(100).decode()


@pytest.fixture(scope="module", params=["sidecar", "envoy"])
def command(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(
    scope="module", params=[InterceptionMode.REDIRECT, InterceptionMode.TPROXY], ids=lambda mode: mode.value
)
def mode(request: pytest.FixtureRequest) -> InterceptionMode:
    found: InterceptionMode = request.param
    return found


@pytest.fixture(scope="module", params=[V4, V6], ids=["v4", "v6"])
def proxied(
    namespaces: tuple[NetworkNamespace, NetworkNamespace],
    command: str,
    mode: InterceptionMode,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProxiedPod]:
    side: Side = request.param
    pod, outside = namespaces
    folder = tmp_path_factory.mktemp(command)
    file = folder / "bootstrap.json"
    file.write_text(bootstrap(side, mode))
    with ExitStack() as stack:
        rules = stack.enter_context(InterceptedPod(pod, outside, side, "nft"))
        assert rules.run("--mode", mode.value, "--proxy-uid", "") == 0
        for number, host in ((POD_ONLY, side.pod), (LOOPBACK_ONLY, side.loopback), (ANYWHERE, "")):
            stack.enter_context(http_server(pod.listen(side, number, host=host, owner=APPLICATION)))
        for number in (GREETING, UNKNOWN):
            stack.enter_context(greeting_server(pod.listen(side, number, host=side.pod, owner=APPLICATION)))
        stack.enter_context(http_server(outside.listen(side, POD_ONLY)))
        with pod.entered(PROXY):
            process = stack.enter_context(child(start(command, file, folder), folder / "log"))
        found = ProxiedPod(pod, outside, side, mode)

        process.wait_for(found.listens, "it listens")
        yield found


def start(command: str, file: Path, folder: Path) -> list[str]:
    if command == "envoy":
        return envoy_command(file)
    sidecar = [sys.executable, "-m", "sidecar", "-c", str(file), "--drain-time-s", "0"]
    return [*sidecar, "--status-port", "0", "--metrics-port", "0"]


def test_an_application_on_the_pod_s_address_is_reached(proxied: ProxiedPod) -> None:
    assert proxied.get(POD_ONLY) == (200, proxied.expected_client)
    assert proxied.get(ANYWHERE) == (200, proxied.expected_client)


def test_an_application_on_loopback_only_is_not_reached_from_outside(proxied: ProxiedPod) -> None:
    assert proxied.get(LOOPBACK_ONLY)[0] == 503


def test_a_server_first_protocol_passes(proxied: ProxiedPod) -> None:
    assert proxied.receive(GREETING) == proxied.expected_client


def test_a_port_without_a_service_is_passed_through(proxied: ProxiedPod) -> None:
    assert proxied.receive(UNKNOWN) == proxied.expected_client


@pytest.fixture
def other(proxied: ProxiedPod) -> Iterator[str]:
    """A second address outside of the pod."""
    address = OTHER_CLIENT[proxied.side]
    network = f"{address}/{24 if proxied.side is V4 else 64}"
    proxied.outside.ip(f"address add {network} dev eth0 nodad")
    yield address
    proxied.outside.ip(f"address delete {network} dev eth0")


def test_clients_do_not_share_the_connections_that_carry_their_addresses(
    proxied: ProxiedPod, other: str
) -> None:
    for _ in range(2):
        seen = [proxied.get(ANYWHERE, source=source)[1] for source in ("", other)]
        if proxied.mode is InterceptionMode.TPROXY:
            assert seen == [proxied.side.outside, other]
        else:
            assert seen == [proxied.side.inbound_source] * 2


def test_a_direct_call_of_the_proxy_s_port_does_not_loop(proxied: ProxiedPod) -> None:
    for number in (15001, 15006):
        with proxied.connect(number) as client, suppress(ConnectionResetError):
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.recv(100) == b""


def test_the_application_reaches_a_server_outside(proxied: ProxiedPod) -> None:
    side = proxied.side
    with proxied.pod.socket(side, socket.SOCK_STREAM, APPLICATION) as client:
        client.connect((side.elsewhere, POD_ONLY))
        assert get(client) == (200, side.pod)


def test_the_applications_connections_inside_the_pod_are_direct(proxied: ProxiedPod) -> None:
    for host in (proxied.side.pod, proxied.side.loopback):
        with proxied.pod.socket(proxied.side, socket.SOCK_STREAM, APPLICATION) as client:
            client.connect((host, ANYWHERE))
            assert get(client) == (200, host)
