"""A thousand services of ten endpoints each, from YAML files to proxies, with the control plane as a process:
everything arrives, and then only what changes. `make bench-control-plane` has the times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from protos.type_urls import ENDPOINT, LISTENER, ROUTE
from tests.support.ads_client import DeltaClient, node_of
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.documents import destination, virtual_service
from tests.support.following_envoy import following_envoy, identity
from tests.support.large_mesh import ENDPOINTS, SERVICES, cluster_name, workload_text, write_large_mesh
from tests.support.mesh_folder import MeshFolder

CHANGES = 3
EXPLICIT_PROXY = {"INTERCEPTION_MODE": "NONE", "HTTP_PROXY_PORT": "15080"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    folder: MeshFolder
    plane: RunningControlPlane
    work_dir: Path


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    work_dir = tmp_path_factory.mktemp("scale")
    folder = MeshFolder(work_dir / "mesh")
    write_large_mesh(folder)
    with control_plane(folder.path, work_dir / "state") as plane:
        yield Mesh(folder=folder, plane=plane, work_dir=work_dir)


def test_every_file_is_read(mesh: Mesh) -> None:
    assert len(mesh.plane.debug_json("/debug/registryz")) == SERVICES


async def test_a_sidecar_is_sent_all_and_then_only_changes(mesh: Mesh) -> None:
    async with (
        grpc.aio.insecure_channel(mesh.plane.xds) as channel,
        DeltaClient(channel, node_of("sidecar", **EXPLICIT_PROXY)) as sidecar,
    ):
        await sidecar.follow(SERVICES)
        await sidecar.subscribe(LISTENER)
        await sidecar.accept(LISTENER)
        await sidecar.subscribe(ROUTE, "http_proxy")
        await sidecar.accept(ROUTE)
        for change in range(CHANGES):
            mesh.folder.write_text("added", workload_text(7, ENDPOINTS + change))
            # The next response of any type is this one: nothing else is sent.
            response = await sidecar.accept(ENDPOINT)
            assert [each.name for each in response.resources] == [cluster_name(7)]
        mesh.folder.write("route", virtual_service("s7", ["s7"], destination("s8")))
        response = await sidecar.accept(ROUTE)
        assert [each.name for each in response.resources] == ["http_proxy"]


@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_the_real_envoy_acknowledges_all_of_it(mesh: Mesh, variant: str) -> None:
    files = identity(mesh.plane, mesh.work_dir / f"identity{variant}", "default", "envoy")
    with following_envoy(mesh.plane, files, f"envoy{variant}", variant) as envoy:
        in_force = envoy.in_force()
        for names in (in_force["cds"], in_force["eds"]):
            assert sum(name.startswith("outbound|") for name in names) == SERVICES
        assert list(envoy.stats("s8[.]default.*membership_total").values()) == [ENDPOINTS]
        assert not any(envoy.stats("update_rejected").values())
        assert envoy.complaints() == []
