"""A pod whose DNS is captured: the C library of an application resolves names by the sidecar, which follows a
control plane, and its connections to the addresses reach the right hosts."""

from __future__ import annotations

import json
import shlex
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.control_plane import RunningControlPlane, control_plane, outrigger
from tests.support.dns_server import name_server
from tests.support.documents import Document, document, service
from tests.support.intercepted_pod import InterceptedPod
from tests.support.mesh_folder import MeshFolder
from tests.support.network_namespaces import APPLICATION, NetworkNamespace, Owner, Side
from tests.support.processes import Child, child

SIDECAR = Owner(0, 1337)  # the rules know it by its group; it reads the files of the test
# The first two have no names outside; the sidecar resolves the last one itself.
HOSTS = {"a.example.com": 6001, "b.example.com": 6002, "c.example.com": 6003}
RESOLVED = "c.example.com"
DATABASE_PORT = 5432
# bash connects to a host, and prints the first line that it gets.
CALL = 'exec 3<>"/dev/tcp/$0/$1" && head --lines=1 <&3'


@pytest.fixture(params=["nft"])
def pod(
    namespaces: tuple[NetworkNamespace, NetworkNamespace], side: Side, request: pytest.FixtureRequest
) -> Iterator[InterceptedPod]:
    with InterceptedPod(*namespaces, side, request.param) as intercepted:
        yield intercepted


def database(host: str, address: str, port: int) -> Document:
    spec: dict[str, Any] = {
        "hosts": [host],
        "ports": [{"number": DATABASE_PORT, "name": "tcp", "protocol": "TCP", "targetPort": port}],
        "resolution": "STATIC",
        "endpoints": [{"address": address}],
    }
    if host == RESOLVED:
        spec |= {"resolution": "DNS", "endpoints": []}
    return document("ServiceEntry", host.replace(".", "-"), spec)


class Pod:
    """Processes in the pod's network namespace, whose ``resolv.conf`` is that of a cluster."""

    def __init__(self, pod: InterceptedPod, folder: Path) -> None:
        self.side = pod.side
        self._pod = pod
        self._folder = folder
        self._resolv_conf = folder / "resolv.conf"
        self._resolv_conf.write_text(
            f"nameserver {pod.side.outside}\n"
            "search default.svc.cluster.local svc.cluster.local cluster.local\n"
            "options ndots:5\n"
        )

    def _command(self, *command: str, user: Owner) -> list[str]:
        ids = ["setpriv", "--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups", *command]
        script = (
            f"mount --bind {shlex.quote(str(self._resolv_conf))} /etc/resolv.conf && exec {shlex.join(ids)}"
        )
        return ["unshare", "--mount", "sh", "-c", script]

    def run(self, *command: str) -> str:
        """The output of a program of the application."""
        with self._pod.pod.entered():
            done = subprocess.run(
                self._command(*command, user=APPLICATION),
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        return done.stdout if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"

    def resolve(self, name: str) -> set[str]:
        """The addresses that getaddrinfo(3) finds."""
        return {line.split()[0] for line in self.run("getent", "ahosts", name).splitlines()}

    def call(self, name: str, port: int) -> str:
        return self.run("bash", "-c", CALL, name, str(port)).strip()

    def names(self) -> set[str]:
        """The names that the sidecar shows."""
        lines = self.run("curl", "--silent", "http://127.0.0.1:15000/dns").splitlines()
        return {line.partition(": ")[0] for line in lines}

    @contextmanager
    def sidecar(self, xds: str) -> Iterator[Child]:
        made = outrigger(
            "bootstrap", "--xds-address", xds, "--name", "app", "--ip", self.side.pod, "--format", "json"
        )
        bootstrap: dict[str, Any] = json.loads(made.stdout)
        bootstrap["node"]["metadata"]["DNS_CAPTURE"] = "true"
        sidecar = [sys.executable, "-m", "sidecar", "--config-yaml", json.dumps(bootstrap)]
        flags = ["--dns-capture", "true", "--cache-dir", str(self._folder / "cache"), "--drain-time-s", "0"]
        with ExitStack() as stack:
            with self._pod.pod.entered():
                command = self._command(*sidecar, *flags, user=SIDECAR)
                process = stack.enter_context(child(command, self._folder / "sidecar.log"))
            process.wait_for(lambda: set(HOSTS) <= self.names(), "the name table has arrived")
            yield process

    @contextmanager
    def control_plane(self, folder: MeshFolder) -> Iterator[RunningControlPlane]:
        with ExitStack() as stack:
            with self._pod.pod.entered():
                plane = stack.enter_context(control_plane(folder.path, self._folder / "state"))
            yield plane


class Greeter(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def greeting(name: str, side: Side, port: int) -> Iterator[None]:
    """A TCP server outside that says its name."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(f"{name}\n".encode())

    class Server(Greeter):
        address_family = side.kind

    with Server((side.elsewhere, port), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def test_an_application_finds_hosts_by_name(pod: InterceptedPod, tmp_path: Path) -> None:
    folder = MeshFolder(tmp_path / "mesh")
    address = {4: "10.96.7.7", 6: "fd00:96::7"}[6 if ":" in pod.side.pod else 4]
    folder.write("reviews", service("reviews", clusterIP=address, ports=[{"port": 9080, "name": "http"}]))
    for host, port in HOSTS.items():
        folder.write(host, database(host, pod.side.elsewhere, port))
    application = Pod(pod, tmp_path)
    assert pod.run("--capture-dns", "--capture-all-dns") == 0
    with ExitStack() as stack:
        with pod.outside.entered():
            names = stack.enter_context(name_server(pod.side.outside, 53))
            for host, port in HOSTS.items():
                stack.enter_context(greeting(host, pod.side, port))
        for name in ("www.example.net", RESOLVED):
            names.say(name, pod.side.elsewhere)
        with application.control_plane(folder) as plane, application.sidecar(plane.xds):
            assert application.resolve("reviews") == {address}
            assert application.resolve("www.example.net") == {pod.side.elsewhere}
            assert names.count("www.example.net") > 0
            assert application.run("getent", "ahosts", "absent.example.net").startswith("exit code 2")
            addresses = [application.resolve(host) for host in HOSTS]
            assert {len(each) for each in addresses} == {1}
            assert len(set.union(*addresses)) == len(HOSTS), "each has its own, none the real one"
            assert pod.side.elsewhere not in set.union(*addresses)
            for host in HOSTS:
                assert application.call(host, DATABASE_PORT) == host
            assert names.count(RESOLVED), "the sidecar's own query is not captured"
            assert not any(names.count(host) for host in HOSTS if host != RESOLVED)
        with application.sidecar(plane.xds):  # the control plane is gone
            assert [application.resolve(host) for host in HOSTS] == addresses
            for host in HOSTS:
                assert application.call(host, DATABASE_PORT) == host
            assert application.resolve("www.example.net") == {pod.side.elsewhere}
