"""gRPC's own xDS client, without any proxy, follows the control plane."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    service,
    virtual_service,
    workload,
)
from tests.support.following_grpc import following_grpc_client
from tests.support.grpc_backend import grpc_backend
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import Child

CLIENT = "productpage"
TARGET = "reviews.default.svc.cluster.local:9080"
CHANGE_S = 5.0
IN_A_ROW = 50


def replica(name: str, port: int) -> Document:
    version = name.partition("-")[0]
    return workload(
        f"reviews-{name}", "127.0.0.1", {"app": "reviews", "version": version}, ports={"grpc": port}
    )


def shares(v1: int, v2: int) -> Document:
    return virtual_service(
        "reviews", ["reviews"], destination("reviews", "v1", v1), destination("reviews", "v2", v2)
    )


class Mesh:
    """Reviews in two versions, no sidecars, and a client that calls it all the time."""

    def __init__(self, work_dir: Path, processes: ExitStack) -> None:
        self.folder = MeshFolder(work_dir / "mesh")
        ports = [{"name": "grpc", "port": 9080}]
        self.folder.write(
            "reviews", service("reviews", ports=ports), destination_rule("reviews", "reviews", "v1", "v2")
        )
        for version in ("v1", "v2"):
            self.folder.write(version, replica(version, processes.enter_context(grpc_backend(version))))
        self.folder.write("shares", shares(80, 20))
        self.plane: RunningControlPlane = processes.enter_context(
            control_plane(self.folder.path, work_dir / "state")
        )
        following = following_grpc_client(self.plane, work_dir, CLIENT, TARGET)
        self.client: Child = processes.enter_context(following)

    def answers(self) -> list[str]:
        """All that the client has been answered so far; every call must have succeeded."""
        lines = self.client.output.split("\n")[:-1]
        failed = [line for line in lines if line not in ("v1", "v2", "v2-added")]
        assert failed == []
        return lines

    def next_answers(self, count: int) -> list[str]:
        """The answers to the calls that are made from now on."""
        start = len(self.answers())
        self.client.wait_for(lambda: len(self.answers()) >= start + count, f"{count} calls are answered")
        return self.answers()[start : start + count]

    def wait_for_only(self, version: str) -> None:
        started = time.monotonic()
        while set(self.next_answers(IN_A_ROW)) != {version}:
            assert time.monotonic() - started < CHANGE_S, f"{version} only: not within {CHANGE_S} s"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with ExitStack() as processes:
        yield Mesh(tmp_path_factory.mktemp("grpc"), processes)


def test_calls_split_as_the_weights_say(mesh: Mesh) -> None:
    mesh.folder.write("shares", shares(80, 20))
    mesh.client.wait_for(lambda: "v1" in mesh.next_answers(IN_A_ROW), "the weights are 80 and 20")
    count, share = 1000, 0.2
    seen = Counter(mesh.next_answers(count))
    assert seen["v1"] + seen["v2"] == count
    assert abs(seen["v2"] - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_a_change_of_the_weights_is_followed(mesh: Mesh) -> None:
    mesh.folder.write("shares", shares(0, 100))
    mesh.wait_for_only("v2")
    mesh.folder.write("shares", shares(100, 0))
    mesh.wait_for_only("v1")


def test_a_destination_that_is_not_there_holds_nothing_else_up(mesh: Mesh) -> None:
    """The client uses no new routes before it has every cluster that they name."""
    mesh.folder.write("shares", shares(0, 100))
    mesh.wait_for_only("v2")
    rules = [
        {"match": [{"uri": {"prefix": "/never"}}], "route": [destination("gone")]},
        {"match": [{"uri": {"prefix": "/nor"}}], "route": [destination("reviews", "v9")]},
        {"route": [destination("reviews", "v1")]},
    ]
    mesh.folder.write("shares", document("VirtualService", "reviews", {"hosts": ["reviews"], "http": rules}))
    mesh.wait_for_only("v1")


def test_no_call_is_lost_while_a_replica_comes_and_goes(mesh: Mesh) -> None:
    mesh.folder.write("shares", shares(0, 100))
    mesh.wait_for_only("v2")
    with grpc_backend("v2-added") as port:
        mesh.folder.write("added", replica("v2-added", port))
        mesh.client.wait_for(lambda: "v2-added" in mesh.next_answers(IN_A_ROW), "the new replica is called")
        mesh.folder.remove("added")
        mesh.wait_for_only("v2")
    assert set(mesh.next_answers(IN_A_ROW)) == {"v2"}


def test_everything_was_acknowledged(mesh: Mesh) -> None:
    mesh.client.wait_for(lambda: mesh.plane.synced(CLIENT), "everything is acknowledged")
