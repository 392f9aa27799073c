"""Which hosts a client reaches through an Envoy that follows our control plane, and where each leads."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from http.client import HTTPResponse
from pathlib import Path

import pytest
import yaml

from tests.support.backends import Backend, backend
from tests.support.control_plane import control_plane
from tests.support.documents import Document, destination, document, service, workload
from tests.support.following_envoy import FollowingEnvoy, following_envoy, identity, proxy_client
from tests.support.mesh_folder import MeshFolder

REVIEWS = "reviews.default.svc.cluster.local"
DETAILS = "details.other.svc.cluster.local"
API = "api.example.com"


def replica(app: str, server: Backend, namespace: str = "default") -> Document:
    return workload(app, "127.0.0.1", {"app": app}, namespace, ports={"http": server.server_port})


def entry(name: str, namespace: str, number: int, server: Backend) -> Document:
    spec = {
        "hosts": [API],
        "ports": [{"number": number, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": server.server_port}}],
        "exportTo": ["."],
    }
    return document("ServiceEntry", name, spec, namespace)


class Mesh:
    """A client in each of the namespaces default and other, which may call what the mesh knows, and no
    more."""

    def __init__(self, folder: Path, processes: ExitStack) -> None:
        names = ("reviews", "details", "api-default", "api-other", "api-second-port")
        servers = {name: processes.enter_context(backend(name)) for name in names}
        resources = MeshFolder(folder / "mesh")
        resources.write("mesh", *self._resources(servers))
        config = folder / "mesh-config.yaml"
        config.write_text(yaml.safe_dump({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}))
        running = control_plane(resources.path, folder / "state", "--mesh-config", str(config))
        self.plane = processes.enter_context(running)
        self.envoys = {
            namespace: processes.enter_context(self._envoy(folder, namespace))
            for namespace in ("default", "other")
        }

    def _envoy(self, folder: Path, namespace: str) -> AbstractContextManager[FollowingEnvoy]:
        files = identity(self.plane, folder / f"identity-{namespace}", namespace, "client")
        return following_envoy(self.plane, files, f"client-{namespace}", namespace=namespace)

    def _resources(self, servers: dict[str, Backend]) -> Iterator[Document]:
        yield service("reviews")
        yield replica("reviews", servers["reviews"])
        yield service("details", "other")
        yield replica("details", servers["details"], "other")
        yield entry("api", "default", 81, servers["api-default"])
        yield entry("api-second-port", "default", 82, servers["api-second-port"])
        yield entry("api", "other", 81, servers["api-other"])
        # Of the namespace `other` the clients in `default` see what a route leads to.
        yield document("Sidecar", "default", {"egress": [{"hosts": ["./*"]}]})
        to_details = {"match": [{"uri": {"prefix": "/details"}}], "route": [destination(DETAILS)]}
        for_gateway = {
            "match": [{"uri": {"prefix": "/gateway"}, "gateways": ["public"]}],
            "directResponse": {"status": 418},
        }
        http = [for_gateway, to_details, {"route": [destination("reviews")]}]
        spec = {"hosts": ["reviews"], "gateways": ["public", "mesh"], "http": http}
        yield document("VirtualService", "reviews", spec)
        # As people write it for an ingress gateway; the sidecars have nothing to do with it.
        http = [{"directResponse": {"status": 418}}]
        answer = {"hosts": ["*"], "gateways": ["istio-system/public"], "http": http}
        yield document("VirtualService", "a-gateways", answer)
        yield document("VirtualService", "b-gateways", {**answer, "hosts": ["reviews"]})

    def ask(self, url: str, namespace: str = "default") -> tuple[int, str]:
        """The status, and which backend answered."""
        with proxy_client(self.envoys[namespace].http_proxy_port) as client:
            status, answer = client.get(url)
        return status, answer["version"] if isinstance(answer, dict) else ""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as processes:
        yield Mesh(tmp_path_factory.mktemp("mesh"), processes)


def test_everything_is_in_force(mesh: Mesh) -> None:
    resources = mesh.plane.debug_json("/debug/statusz")["resources"]
    assert [each["name"] for each in resources if each["state"] != "APPLIED"] == []


@pytest.mark.parametrize("host", ["reviews", "reviews.default", REVIEWS, f"{REVIEWS}."])
def test_a_host_is_known_by_every_name_that_dns_would_find(mesh: Mesh, host: str) -> None:
    assert mesh.ask(f"http://{host}:9080/") == (200, "reviews")


@pytest.mark.parametrize("host", [REVIEWS, f"{REVIEWS}."])
def test_a_tunnel_to_a_host_too(mesh: Mesh, host: str) -> None:
    port = mesh.envoys["default"].http_proxy_port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"CONNECT {host}:9080 HTTP/1.1\r\nHost: {host}:9080\r\n\r\n".encode())
        established = HTTPResponse(connection, method="CONNECT")
        established.begin()
        assert established.status == 200


def test_sidecars_do_not_use_routes_for_a_gateway(mesh: Mesh) -> None:
    assert mesh.ask("http://reviews:9080/gateway") == (200, "reviews")


def test_a_route_leads_to_a_service_whose_own_host_is_not_imported(mesh: Mesh) -> None:
    assert mesh.ask("http://reviews:9080/details") == (200, "details")
    assert mesh.ask(f"http://{DETAILS}:9080/") == (502, "")
    assert mesh.ask(f"http://{DETAILS}:9080/", "other") == (200, "details")


def test_each_namespace_reaches_its_own_declarations(mesh: Mesh) -> None:
    assert mesh.ask(f"http://{API}:81/") == (200, "api-default")
    assert mesh.ask(f"http://{API}:81/", "other") == (200, "api-other")


def test_a_port_of_a_host_may_be_declared_apart(mesh: Mesh) -> None:
    assert mesh.ask(f"http://{API}:82/") == (200, "api-second-port")
    assert mesh.ask(f"http://{API}:82/", "other") == (502, "")


def test_envoy_had_nothing_to_complain_of(mesh: Mesh) -> None:
    for envoy in mesh.envoys.values():
        assert envoy.complaints() == []
