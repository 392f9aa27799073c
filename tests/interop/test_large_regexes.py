"""A regular expression that Envoy by itself finds too large: with the bootstrap that is printed it takes it,
with another it refuses the route configuration, and the resources behind that say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.backends import backend
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import destination, document, service, virtual_service, workload
from tests.support.envoy import envoy_command
from tests.support.following_envoy import (
    FollowingEnvoy,
    following_envoy,
    identity,
    printed_bootstrap,
    proxy_client,
)
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import child

LARGE = "/[a-z0-9]{8}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{4}-[a-z0-9]{12}(/[^/]{1,100})?"
ROUTE = document(
    "VirtualService",
    "reviews",
    {
        "hosts": ["reviews"],
        "http": [
            {"match": [{"uri": {"regex": LARGE}}], "route": [destination("reviews")]},
            {"directResponse": {"status": 418}},
        ],
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[MeshFolder]:
    folder = MeshFolder(tmp_path / "mesh")
    with backend("v1") as server:
        ports = {"http": server.server_port}
        pod = workload("reviews-1", "127.0.0.1", {"app": "reviews"}, ports=ports)
        folder.write(
            "base", service("reviews"), service("ratings", ports=[{"name": "http", "port": 80}]), pod
        )
        folder.write("rule", document("DestinationRule", "reviews", {"host": "reviews"}))
        yield folder


def resources(plane: RunningControlPlane) -> dict[str, Any]:
    listing = plane.debug_json("/debug/statusz")["resources"]
    return {f"{each['kind']}/{each['name']}": each for each in listing}


def test_an_envoy_with_the_printed_bootstrap_takes_it(folder: MeshFolder, tmp_path: Path) -> None:
    folder.write("route", ROUTE)
    with control_plane(folder.path, tmp_path / "state") as plane:
        files = identity(plane, tmp_path / "identity", "default", "client")
        with following_envoy(plane, files, "client") as envoy, proxy_client(envoy.http_proxy_port) as client:
            path = "/01234567-89ab-cdef-0123-456789abcdef/x"
            assert client.version(f"http://reviews:9080{path}") == "v1"
            assert client.get("http://reviews:9080/")[0] == 418
        assert resources(plane)["VirtualService/reviews"]["rejections"] == []


@contextmanager
def stock_envoy(plane: RunningControlPlane, files: Path) -> Iterator[FollowingEnvoy]:
    """With a bootstrap file that `outrigger bootstrap` has not printed."""
    printed = printed_bootstrap(plane, files, "stock")
    document = yaml.safe_load(printed.path.read_text())
    del document["layered_runtime"]
    printed.path.write_text(yaml.safe_dump(document))
    with child(envoy_command(printed.path), files / "stock.log") as process:
        process.wait_for_port(printed.http_proxy_port)
        yield FollowingEnvoy(
            process=process, admin_port=printed.admin_port, http_proxy_port=printed.http_proxy_port
        )


def test_resources_report_an_envoy_that_refuses_them(folder: MeshFolder, tmp_path: Path) -> None:
    with control_plane(folder.path, tmp_path / "state") as plane:
        files = identity(plane, tmp_path / "identity", "default", "client")
        with stock_envoy(plane, files) as envoy:
            envoy.process.wait_for(lambda: plane.synced("stock"), "everything is acknowledged")
            folder.write("route", ROUTE)
            other = virtual_service("ratings", ["ratings"], destination("ratings"))
            folder.write("other", other)

            def rejections(name: str) -> list[dict[str, str]]:
                found: list[dict[str, str]] = resources(plane).get(name, {}).get("rejections", [])
                return found

            envoy.process.wait_for(lambda: bool(rejections("VirtualService/reviews")), "it is refused")
            [refused] = rejections("VirtualService/reviews")
            assert refused["proxy"].startswith("sidecar~127.0.0.1~stock.default~")
            assert refused["type"] == "rds"
            assert "max program size of 100 set for the error level threshold" in refused["reason"]
            # It is in the same route configuration, which Envoy has not taken.
            assert rejections("VirtualService/ratings") == [refused]
            # Clusters were taken.
            assert rejections("DestinationRule/reviews") == rejections("Service/reviews") == []

            folder.remove("route")
            folder.write("route", virtual_service("reviews", ["reviews"], destination("reviews")))
            envoy.process.wait_for(lambda: not rejections("VirtualService/ratings"), "it is taken")
            assert rejections("VirtualService/reviews") == []
