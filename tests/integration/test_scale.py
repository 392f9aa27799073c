"""A thousand services of ten endpoints each, from YAML files to proxies, with the control plane as a process.

The bars: everything is built within seconds, and an endpoint reaches the proxies that follow its service
within half a second of the debounce, alone. What was measured is printed.
"""

from __future__ import annotations

import statistics
import sys
import time
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
from tests.support.mesh_folder import MeshFolder

SERVICES = 1000
ENDPOINTS = 10
CHANGES = 5

# On an idle machine of two cores: 2.5 s, 0.5 s, 0.17 s, 0.4 s and 2.7 s.
START_S = 20.0
FIRST_BUILD_S = 10.0
DEBOUNCE_S = 0.1
ENDPOINT_CHANGE_S = DEBOUNCE_S + 0.5
ROUTE_CHANGE_S = DEBOUNCE_S + 2.0
ENVOY_SYNCED_S = 20.0

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: s{number}, namespace: default}}
spec: {{selector: {{app: s{number}}}, ports: [{{name: http, port: 9080}}]}}
"""
WORKLOAD = """\
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: s{number}-{replica}, namespace: default}}
spec:
  address: 10.{replica}.{high}.{low}
  labels: {{app: s{number}, security.istio.io/tlsMode: istio}}
  serviceAccount: s{number}
"""


def workload(number: int, replica: int) -> str:
    return WORKLOAD.format(number=number, replica=replica, high=number // 256, low=number % 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    folder: MeshFolder
    plane: RunningControlPlane
    work_dir: Path
    started_in_s: float


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    work_dir = tmp_path_factory.mktemp("scale")
    folder = MeshFolder(work_dir / "mesh")
    for number in range(SERVICES):
        replicas = "".join(workload(number, replica) for replica in range(ENDPOINTS))
        folder.write_text(f"s{number}", SERVICE.format(number=number) + replicas)
    started = time.perf_counter()
    with control_plane(folder.path, work_dir / "state") as plane:
        took_s = time.perf_counter() - started
        yield Mesh(folder=folder, plane=plane, work_dir=work_dir, started_in_s=took_s)


def report(capsys: pytest.CaptureFixture[str], what: str, seconds: float, bar_s: float) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {seconds:.2f} s (at most {bar_s:g} s)")


def test_the_files_are_read_within_seconds(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    what = f"{SERVICES} services and {SERVICES * ENDPOINTS} endpoints read from {SERVICES} files and checked"
    report(capsys, what, mesh.started_in_s, START_S)
    assert mesh.started_in_s < START_S
    assert len(mesh.plane.debug_json("/debug/registryz")) == SERVICES


async def test_a_sidecar_is_sent_all_and_then_only_what_changes(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    async with (
        grpc.aio.insecure_channel(mesh.plane.xds) as channel,
        DeltaClient(
            channel, node_of("sidecar", INTERCEPTION_MODE="NONE", HTTP_PROXY_PORT="15080")
        ) as sidecar,
    ):
        started = time.perf_counter()
        await sidecar.follow(SERVICES)
        await sidecar.subscribe(LISTENER)
        await sidecar.accept(LISTENER)
        await sidecar.subscribe(ROUTE, "http_proxy")
        await sidecar.accept(ROUTE)
        first_build_s = time.perf_counter() - started
        report(
            capsys, "a first sidecar: everything built, sent and acknowledged", first_build_s, FIRST_BUILD_S
        )
        assert first_build_s < FIRST_BUILD_S

        endpoint_changes_s = []
        for change in range(CHANGES):
            started = time.perf_counter()
            mesh.folder.write_text("added", workload(7, ENDPOINTS + change))
            # The next response of any type is this one: nothing else is sent.
            response = await sidecar.accept(ENDPOINT)
            endpoint_changes_s.append(time.perf_counter() - started)
            assert [each.name for each in response.resources] == [
                "outbound|9080||s7.default.svc.cluster.local"
            ]
        endpoint_change_s = statistics.median(endpoint_changes_s)
        report(capsys, "one endpoint, from the file to the sidecar", endpoint_change_s, ENDPOINT_CHANGE_S)
        assert endpoint_change_s < ENDPOINT_CHANGE_S

        started = time.perf_counter()
        mesh.folder.write("route", virtual_service("s7", ["s7"], destination("s8")))
        response = await sidecar.accept(ROUTE)
        route_change_s = time.perf_counter() - started
        report(capsys, "one VirtualService, from the file to the sidecar", route_change_s, ROUTE_CHANGE_S)
        assert route_change_s < ROUTE_CHANGE_S


@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_the_real_envoy_acknowledges_all_of_it(
    mesh: Mesh, capsys: pytest.CaptureFixture[str], variant: str
) -> None:
    files = identity(mesh.plane, mesh.work_dir / f"identity{variant}", "default", "envoy")
    started = time.perf_counter()
    with following_envoy(mesh.plane, files, f"envoy{variant}", variant) as envoy:
        synced_s = time.perf_counter() - started
        report(capsys, f"Envoy, {variant}: started, and everything acknowledged", synced_s, ENVOY_SYNCED_S)
        assert synced_s < ENVOY_SYNCED_S
        in_force = envoy.in_force()
        for names in (in_force["cds"], in_force["eds"]):
            assert sum(name.startswith("outbound|") for name in names) == SERVICES
        assert list(envoy.stats("s8[.]default.*membership_total").values()) == [ENDPOINTS]
        assert not any(envoy.stats("update_rejected").values())
        assert envoy.complaints() == []
