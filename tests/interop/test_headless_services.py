"""A redirected client of a headless service, behind the real Envoy and behind our sidecar: it reaches the
broker that it dials, over mutual TLS, and no other host. Each pod is a network namespace of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.ca.authority import Authority
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.ca.signer_files import load_or_create_root
from controlplane.model.proxy import InterceptionMode, Proxy
from controlplane.model.service import Protocol, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from protos.spiffe import SpiffeId
from tests.support.acceptance import built
from tests.support.envoy import envoy_command
from tests.support.meshes import mesh, service, sidecar_proxy, workload
from tests.support.node import require_node
from tests.support.node_agent.commands import run
from tests.support.node_agent.network import PodInterface, PodNetwork
from tests.support.pod_processes import in_namespace
from tests.support.processes import child
from tests.support.static_bootstrap import static_bootstrap

HOST = "kafka.default.svc.cluster.local"
TCP_PORT, HTTP_PORT, TCP_APP, HTTP_APP = 9092, 9200, 9093, 9201
# Whose connections are redirected; everything else in the client's pod is the proxy.
APP_GROUP = 1338
REDIRECTION = f"""\
*nat
-A OUTPUT -p tcp -m owner --gid-owner {APP_GROUP} -j REDIRECT --to-ports 15001
COMMIT
"""

# Says its name to who connects, and over HTTP also who the caller is.
APP = """
import asyncio, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

name, address, tcp_port, http_port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{name} {self.headers.get('x-forwarded-client-cert', 'plaintext')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

async def greet(reader, writer):
    writer.write(name.encode())
    writer.close()

async def main():
    http = ThreadingHTTPServer((address, http_port), Handler)
    Thread(target=http.serve_forever, daemon=True).start()
    async with await asyncio.start_server(greet, address, tcp_port) as server:
        await server.serve_forever()

asyncio.run(main())
"""

# One conversation for each `ADDRESS:PORT` or `ADDRESS:PORT/HOST`, a line each; an empty one: nothing came.
CLIENT = """
import http.client, socket, sys

for target in sys.argv[1:]:
    place, _, host = target.partition("/")
    address, _, port = place.rpartition(":")
    try:
        if host:
            connection = http.client.HTTPConnection(address, int(port), timeout=5)
            connection.request("GET", "/", headers={"Host": host})
            response = connection.getresponse()
            print(response.status, response.read().decode())
        else:
            with socket.create_connection((address, int(port)), timeout=5) as connection:
                print(connection.recv(1000).decode())
    except OSError as error:
        print(type(error).__name__)
"""

# Until all of them take connections, which a proxy does once it has read its configuration.
WAIT = """
import socket, sys, time

for target in sys.argv[1:]:
    address, _, port = target.rpartition(":")
    while True:
        try:
            socket.create_connection((address, int(port)), timeout=1).close()
            break
        except OSError:
            time.sleep(0.02)
"""


def world(brokers: Sequence[PodInterface], app: str) -> MeshSnapshot:
    """Brokers that take mutual TLS alone, by sidecars on the very ports that clients dial."""
    ports = (
        ServicePort(name="tcp", number=TCP_PORT, protocol=Protocol.TCP, target_port=TCP_PORT),
        ServicePort(name="http", number=HTTP_PORT, protocol=Protocol.HTTP, target_port=HTTP_PORT),
    )
    workloads = [
        workload("kafka", broker.address, f"v{index}", service_account="kafka")
        for index, broker in enumerate(brokers)
    ]
    ingress = [
        _ingress(TCP_PORT, "TCP", f"{app}:{TCP_APP}"),
        _ingress(HTTP_PORT, "HTTP", f"{app}:{HTTP_APP}"),
    ]
    return mesh(
        (service("kafka", *ports, headless=True), workloads),
        sidecars={"kafka": {"workloadSelector": {"labels": {"app": "kafka"}}, "ingress": ingress}},
        peer_authentications={"strict": {"mtls": {"mode": "STRICT"}}},
        allow_any_outbound=False,
    )


def _ingress(number: int, protocol: str, endpoint: str) -> dict[str, Any]:
    port = {"number": number, "protocol": protocol, "name": protocol.lower()}
    return {"port": port, "bind": "0.0.0.0", "captureMode": "NONE", "defaultEndpoint": endpoint}


class Pods:
    """Three pods: a client behind the proxy under test, and two brokers behind Envoys. A third one speaks
    plaintext on the brokers' port, and is none of them."""

    def __init__(self, folder: Path, stack: AsyncExitStack, network: PodNetwork) -> None:
        self._folder = folder
        self._stack = stack
        self._network = network
        root = load_or_create_root(folder / "ca", "cluster.local", time.time())
        self._authority = Authority(root)

    async def start(self, proxy: str) -> None:
        names = ("client", "one", "two", "stranger")
        self.client, self.one, self.two, self.stranger = [await self._network.attach(name) for name in names]
        snapshot = world((self.one, self.two), "127.0.0.1")
        for name, pod in (("one", self.one), ("two", self.two)):
            self._run(pod, name, [sys.executable, "-c", APP, name, "127.0.0.1", str(TCP_APP), str(HTTP_APP)])
            own = sidecar_proxy("kafka", ip=pod.address, interception_mode=InterceptionMode.NONE)
            self._run(pod, f"{name}-proxy", envoy_command(self._bootstrap(snapshot, own, "kafka", name)))
            await self._wait_for(pod, TCP_PORT, HTTP_PORT, TCP_APP, HTTP_APP)
        self._run(
            self.stranger,
            "stranger",
            [sys.executable, "-c", APP, "stranger", "0.0.0.0", str(TCP_PORT), str(HTTP_PORT)],
        )
        await self._wait_for(self.stranger, TCP_PORT)
        bootstrap = self._bootstrap(snapshot, sidecar_proxy("web", ip=self.client.address), "web", "client")
        self._run(self.client, "client-proxy", self._command(proxy, bootstrap))
        await self._wait_for(self.client, 15001)
        await run(*in_namespace(self.client), "iptables-restore", "--noflush", text=REDIRECTION)

    async def ask(self, *targets: str) -> list[str]:
        """What each conversation of the client's application gave."""
        as_app = ["setpriv", "--regid", str(APP_GROUP), "--clear-groups"]
        answers = await run(*in_namespace(self.client), *as_app, sys.executable, "-c", CLIENT, *targets)
        return answers.splitlines()

    def _run(self, pod: PodInterface, name: str, command: Sequence[str]) -> None:
        self._stack.enter_context(child([*in_namespace(pod), *command], self._folder / f"{name}.log"))

    def _command(self, proxy: str, bootstrap: Path) -> list[str]:
        if proxy == "envoy":
            return envoy_command(bootstrap)
        options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
        return [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *options]

    def _bootstrap(self, snapshot: MeshSnapshot, proxy: Proxy, account: str, name: str) -> Path:
        key = make_key()
        issued = self._authority.issue_workload(
            SpiffeId("cluster.local", "default", account), key.public_key()
        )
        file = self._folder / f"{name}.json"
        file.write_text(
            static_bootstrap(
                **built(snapshot, proxy),
                certificate="".join(issued.chain_pem),
                private_key=private_key_pem(key).decode(),
                trust_bundle="".join(self._authority.trust_bundle_pem),
            )
        )
        return file

    async def _wait_for(self, pod: PodInterface, *ports: int) -> None:
        targets = [f"127.0.0.1:{port}" for port in ports]
        await run(*in_namespace(pod), sys.executable, "-c", WAIT, *targets)


@asynccontextmanager
async def started(folder: Path, proxy: str) -> AsyncIterator[Pods]:
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(PodNetwork())
        pods = Pods(folder, stack, network)
        await pods.start(proxy)
        yield pods


@pytest.mark.needs_node
@pytest.mark.parametrize("proxy", ["envoy", "sidecar"])
async def test_a_client_reaches_the_endpoint_that_it_dials_over_mutual_tls(
    proxy: str, tmp_path: Path
) -> None:
    require_node()
    async with started(tmp_path, proxy) as pods:
        one, two, stranger = (pod.address for pod in (pods.one, pods.two, pods.stranger))
        turns = [one, two, two, one, one, two]
        names = {one: "one", two: "two"}
        answers = await pods.ask(*(f"{address}:{TCP_PORT}" for address in turns))
        assert answers == [names[address] for address in turns]

        hosts = (f"kafka-0.{HOST}:{HTTP_PORT}", f"{HOST}.:{HTTP_PORT}", "kafka-1.kafka.default", HOST)
        asked = [(address, host) for address in (one, two) for host in hosts]
        answers = await pods.ask(*(f"{address}:{HTTP_PORT}/{host}" for address, host in asked))
        for (address, _), answer in zip(asked, answers, strict=True):
            status, name, caller = answer.split(" ", 2)
            assert (status, name) == ("200", names[address])
            assert "URI=spiffe://cluster.local/ns/default/sa/web" in caller

        # No other host on the brokers' port is one of them.
        (answer,) = await pods.ask(f"{stranger}:{TCP_PORT}")
        assert answer in ("", "ConnectionResetError", "ConnectionRefusedError")
