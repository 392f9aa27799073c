"""A mesh of two pods, client and server, of real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.mesh_folder import MeshFolder
from tests.support.pods import RunningPod, pod, service, strict_mtls


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoPods:
    plane: RunningControlPlane
    folder: MeshFolder
    client: RunningPod
    server: RunningPod


MakeTwoPods = Callable[..., AbstractContextManager[TwoPods]]


@pytest.fixture
def two_pods(tmp_path: Path) -> MakeTwoPods:
    """`two_pods(app_port, *sidecar_flags)`: ready when the block begins. Only mesh TLS is let in."""

    @contextmanager
    def make(app_port: int, *flags: str) -> Iterator[TwoPods]:
        folder = MeshFolder(tmp_path / "config")
        folder.write("mesh", service("client"), service("server"), strict_mtls())
        with (
            control_plane(folder.path, tmp_path / "state") as plane,
            pod(plane, folder, tmp_path, "server", app_port, *flags) as server,
            pod(plane, folder, tmp_path, "client", app_port, *flags) as client,
        ):
            server.wait_until_ready()
            client.wait_until_ready()
            yield TwoPods(plane=plane, folder=folder, client=client, server=server)

    return make
