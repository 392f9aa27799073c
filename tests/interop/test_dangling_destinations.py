"""A destination that is lost concerns that destination alone, in the real Envoy and in the sidecar."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.backends import backend
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import Document, destination, destination_rule, document, service, workload
from tests.support.following_envoy import (
    following_envoy,
    identity,
    printed_bootstrap,
    proxy_client,
)
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import Child, child

EXTRA = "outbound|9080||extra.default.svc.cluster.local"
V3 = "outbound|9080|v3|reviews.default.svc.cluster.local"


def route(**spec: object) -> Document:
    return document("VirtualService", "reviews", {"hosts": ["reviews"], **spec})


ROUTES = [
    {"match": [{"uri": {"prefix": "/extra"}}], "route": [destination("extra")]},
    {
        "match": [{"uri": {"prefix": "/share"}}],
        "route": [destination("extra", weight=50), destination("reviews", "v1", 50)],
    },
    {"match": [{"uri": {"prefix": "/v1"}}], "route": [destination("reviews", "v1")]},
    {"route": [destination("reviews", "v3")]},
]
DB = document("VirtualService", "db", {"hosts": ["db"], "tcp": [{"route": [destination("extra")]}]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """``words``: whether what it answers by itself says why."""

    name: str
    port: int
    words: bool
    process: Child

    def get(self, path: str) -> str:
        """The version that answered, or what the proxy said."""
        with proxy_client(self.port) as client:
            status, answer = client.get(f"http://reviews:9080{path}")
        return str(answer["version"]) if status == 200 else f"{status} {answer}".strip()

    def connect(self, target: str) -> int:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode())
            return int(connection.recv(1000).split()[1])

    def refusal(self, cluster: str) -> str:
        return f"503 cluster not found; NC: the cluster '{cluster}' does not exist" if self.words else "503"


class Mesh:
    def __init__(self, folder: Path, processes: ExitStack) -> None:
        self.folder = MeshFolder(folder / "mesh")
        for name, label in (("v1", "reviews"), ("v3", "reviews"), ("x", "extra")):
            server = processes.enter_context(backend(name))
            labels = {"app": label, "version": name}
            ports = {"http": server.server_port}
            self.folder.write(f"pod-{name}", workload(f"pod-{name}", "127.0.0.1", labels, ports=ports))
        self.restore()
        self.plane = processes.enter_context(control_plane(self.folder.path, folder / "state"))
        files = identity(self.plane, folder / "identity", "default", "client")
        envoy = processes.enter_context(following_envoy(self.plane, files, "envoy"))
        self.envoy = Proxy(name="envoy", port=envoy.http_proxy_port, words=False, process=envoy.process)
        self.sidecar = processes.enter_context(following_sidecar(self.plane, files))

    def restore(self) -> None:
        db = service("db", ports=[{"name": "tcp", "port": 9080}])
        self.folder.write("base", service("reviews"), db, route(http=ROUTES), DB)
        self.folder.write("extra", service("extra"))
        self.folder.write("rule", destination_rule("reviews", "reviews", "v1", "v3"))

    def wait(self, holds: Callable[[Proxy], bool], what: str) -> None:
        for proxy in (self.envoy, self.sidecar):
            proxy.process.wait_for(lambda proxy=proxy: holds(proxy), f"{proxy.name}: {what}")

    def unresolved(self) -> list[str]:
        resources = self.plane.debug_json("/debug/statusz")["resources"]
        return [words for each in resources for words in each["unresolved"]]


@contextmanager
def following_sidecar(plane: RunningControlPlane, files: Path) -> Iterator[Proxy]:
    printed = printed_bootstrap(plane, files, "sidecar")
    command = [sys.executable, "-m", "sidecar", "-c", str(printed.path), "--cache-dir", str(files / "cache")]
    command += ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    with child(command, files / "sidecar.log") as process:
        process.wait_for(lambda: plane.synced("sidecar"), "everything is acknowledged")
        process.wait_for_port(printed.http_proxy_port)
        yield Proxy(name="sidecar", port=printed.http_proxy_port, words=True, process=process)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as processes:
        yield Mesh(tmp_path_factory.mktemp("mesh"), processes)


def test_a_service_that_is_deleted_and_comes_back(mesh: Mesh) -> None:
    mesh.restore()
    mesh.wait(lambda proxy: (proxy.get("/extra"), proxy.get("/")) == ("x", "v3"), "all is there")
    mesh.folder.remove("extra")
    mesh.wait(lambda proxy: proxy.get("/extra") == proxy.refusal(EXTRA), "the destination is not there")
    for proxy in (mesh.envoy, mesh.sidecar):
        assert {proxy.get("/") for _ in range(20)} == {"v3"}
        assert {proxy.get("/share") for _ in range(60)} == {"v1", proxy.refusal(EXTRA)}
        assert proxy.connect("db:9080") == 503
    assert len(mesh.unresolved()) == 3
    mesh.restore()
    mesh.wait(lambda proxy: proxy.get("/extra") == "x", "it is there again")
    assert mesh.unresolved() == []


@pytest.mark.parametrize("loss", ["deleted", "renamed"])
def test_a_subset_that_is_lost_and_comes_back(mesh: Mesh, loss: str) -> None:
    mesh.restore()
    mesh.wait(lambda proxy: (proxy.get("/v1"), proxy.get("/")) == ("v1", "v3"), "all is there")
    if loss == "deleted":
        mesh.folder.remove("rule")
    else:
        mesh.folder.write("rule", destination_rule("reviews", "reviews", "v1", "three"))
    mesh.wait(lambda proxy: proxy.get("/") == proxy.refusal(V3), "the subset is not there")
    for proxy in (mesh.envoy, mesh.sidecar):
        assert proxy.get("/extra") == "x"
        assert (proxy.get("/v1") == "v1") == (loss == "renamed")
    mesh.restore()
    mesh.wait(lambda proxy: proxy.get("/") == "v3", "it is there again")
