"""Traffic through the real Envoy goes where the control plane's resources say, and follows their changes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.backends import Backend, backend
from tests.support.control_plane import control_plane
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    service,
    virtual_service,
    workload,
)
from tests.support.following_envoy import following_envoy, identity, proxy_client
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import free_port

CLIENT = "productpage"
URL = "http://reviews:9080/"
CHANGE_S = 2.0
# So many answers of one version in a row are not a coincidence with the weights 90 and 10.
IN_A_ROW = 30


def replica(name: str, server: Backend) -> Document:
    labels = {"app": "reviews", "version": server.version.partition("-")[0]}
    return workload(name, "127.0.0.1", labels, ports={"http": server.server_port})


def shares(v1: int, v2: int) -> Document:
    return virtual_service(
        "reviews", ["reviews"], destination("reviews", "v1", v1), destination("reviews", "v2", v2)
    )


class Mesh:
    """Reviews in two versions, a control plane that can be restarted, and Envoy as a client's sidecar."""

    def __init__(self, folder: Path, variant: str, processes: ExitStack) -> None:
        self.folder = MeshFolder(folder / "mesh")
        self._state = folder / "state"
        self._processes = processes
        self._ports = [word for name in ("xds", "xds-tls") for word in (f"--{name}-port", str(free_port()))]
        v1, v2 = (processes.enter_context(backend(version)) for version in ("v1", "v2"))
        self.folder.write("reviews", service("reviews"), destination_rule("reviews", "reviews", "v1", "v2"))
        self.folder.write("replicas", replica("reviews-v1", v1), replica("reviews-v2", v2))
        self.folder.write("shares", shares(90, 10))
        self.start_control_plane()
        files = identity(self.plane, folder / "identity", "default", CLIENT)
        self.envoy = processes.enter_context(following_envoy(self.plane, files, CLIENT, variant))
        self.client = processes.enter_context(proxy_client(self.envoy.http_proxy_port))

    def start_control_plane(self) -> None:
        running = control_plane(self.folder.path, self._state, *self._ports)
        self.plane = self._processes.enter_context(running)

    def kill_control_plane(self) -> None:
        self.plane.process.process.kill()
        self.plane.process.process.wait()

    def shift(self, v1: int, v2: int) -> None:
        """Changes the weights, and waits until one of the requests that this allows shows it."""
        self.folder.write("shares", shares(v1, v2))
        if v1 == 0:
            self.wait_for_only("v2")
        else:
            self.wait_for_first("v1")

    def wait_for_first(self, version: str) -> None:
        """Until a version answers; fails unless each request is answered, or if it takes too long."""
        started = time.monotonic()
        while self.client.version(URL) != version:
            assert time.monotonic() - started < CHANGE_S, f"{version}: not within {CHANGE_S} s"

    def wait_for_only(self, version: str) -> None:
        """Until no other version answers any more, on the same terms."""
        started, in_a_row = time.monotonic(), 0
        while in_a_row < IN_A_ROW:
            in_a_row = in_a_row + 1 if self.client.version(URL) == version else 0
            assert time.monotonic() - started < CHANGE_S, f"{version} only: not within {CHANGE_S} s"

    def settled(self, *types: str) -> dict[str, str]:
        """The last response of each type, by its nonce, once all are acknowledged."""
        self.envoy.process.wait_for(lambda: self.plane.synced(CLIENT), "everything is acknowledged")
        sent = self.plane.types(CLIENT)
        return {name: sent[name]["sent_nonce"] for name in types}


@pytest.fixture(params=["--delta", "--sotw"], scope="module")
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as processes:
        yield Mesh(tmp_path_factory.mktemp("mesh"), request.param, processes)


def test_requests_split_as_the_weights_say_and_follow_a_change(mesh: Mesh) -> None:
    mesh.shift(90, 10)
    count, share = 2000, 0.1
    seen = Counter(mesh.client.version(URL) for _ in range(count))
    four_sigma = 4 * math.sqrt(count * share * (1 - share))
    assert seen["v1"] + seen["v2"] == count
    assert abs(seen["v2"] - count * share) < four_sigma
    mesh.shift(0, 100)
    assert {mesh.client.version(URL) for _ in range(200)} == {"v2"}


def test_endpoints_come_and_go_alone_and_no_request_is_lost(mesh: Mesh) -> None:
    mesh.shift(0, 100)
    others, endpoints = mesh.settled("cds", "lds", "rds"), mesh.settled("eds")
    with backend("v2-added") as added:
        mesh.folder.write("added", replica("reviews-v2-added", added))
        mesh.wait_for_first("v2-added")
        assert mesh.settled("eds") != endpoints
        mesh.folder.remove("added")
        mesh.wait_for_only("v2")
        answered = added.requests
        assert {mesh.client.version(URL) for _ in range(200)} == {"v2"}
        assert added.requests == answered
    assert mesh.settled("cds", "lds", "rds") == others


def test_a_control_plane_that_dies_and_returns_is_followed_again_and_traffic_goes_on(mesh: Mesh) -> None:
    mesh.shift(90, 10)
    mesh.kill_control_plane()
    assert {mesh.client.version(URL) for _ in range(100)} <= {"v1", "v2"}
    mesh.start_control_plane()

    def followed_again() -> bool:
        assert mesh.client.version(URL) in ("v1", "v2")
        return mesh.plane.synced(CLIENT)

    mesh.envoy.process.wait_for(followed_again, "the new control plane is followed")
    mesh.shift(0, 100)
    assert not any(mesh.envoy.stats("update_rejected").values())


def test_envoy_had_nothing_to_complain_of_but_the_control_planes_death(mesh: Mesh) -> None:
    complaints = [line for line in mesh.envoy.complaints() if "gRPC config stream" not in line]
    assert complaints == []
