"""The bootstrap files that `outrigger bootstrap` prints, in the hands of the real Envoy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.control_plane import RunningControlPlane, control_plane, outrigger
from tests.support.documents import service
from tests.support.envoy import envoy_command
from tests.support.following_envoy import following_envoy, identity
from tests.support.mesh_folder import MeshFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    plane: RunningControlPlane
    identity_dir: Path

    @property
    def over_tls(self) -> list[str | Path]:
        """The options of an Envoy that proves who it is, by a token and a certificate."""
        trust = ["--xds-address", self.plane.xds_tls, "--ca-cert", self.plane.root_certificate]
        own = ["--token-file", self.identity_dir / "token", "--identity-dir", self.identity_dir]
        return [*trust, *own, "--service-account", "productpage"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    work_dir = tmp_path_factory.mktemp("bootstrap")
    folder = MeshFolder(work_dir / "mesh")
    folder.write("reviews", service("reviews", "bookinfo"))
    with control_plane(folder.path, work_dir / "state") as plane:
        yield Mesh(
            plane=plane, identity_dir=identity(plane, work_dir / "identity", "bookinfo", "productpage")
        )


@pytest.mark.parametrize("encoding", ["yaml", "json"])
@pytest.mark.parametrize("transport", ["plaintext", "tls"])
@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_envoy_takes_the_file_without_a_warning(
    mesh: Mesh, tmp_path: Path, encoding: str, transport: str, variant: str
) -> None:
    options = mesh.over_tls if transport == "tls" else ["--xds-address", mesh.plane.xds]
    options += ["--name", "productpage", "--namespace", "bookinfo", variant, "--format", encoding]
    printed = outrigger("bootstrap", *options, "--interception", "NONE", "--http-proxy-port", "15080")
    assert printed.returncode == 0, printed.stderr
    bootstrap = tmp_path / f"bootstrap.{encoding}"
    bootstrap.write_text(printed.stdout)
    checked = subprocess.run(
        envoy_command(bootstrap, "--mode", "validate"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == "", "at log level warning, silence is success"


@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_envoy_follows_the_control_plane_over_tls_and_acknowledges_everything(
    mesh: Mesh, variant: str
) -> None:
    workload = f"productpage{variant}"
    options = [*mesh.over_tls, variant]
    with following_envoy(mesh.plane, mesh.identity_dir, workload, *options, namespace="bookinfo") as envoy:
        assert envoy.stats("^control_plane.connected_state$") == {"control_plane.connected_state": 1}
        assert envoy.stats("^cluster.xds-grpc.ssl.handshake$") == {"cluster.xds-grpc.ssl.handshake": 1}
        assert envoy.complaints() == []
