"""A restarted control plane has the same versions in force: only the stored state determines them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.runtime import ControlPlane
from controlplane.settings import read_settings
from protos.type_urls import ROUTE
from tests.support.ads_client import DeltaClient, node_of
from tests.support.control_plane import FREE_PORTS
from tests.support.documents import destination, destination_rule, service, virtual_service
from tests.support.mesh_folder import MeshFolder

REVIEWS = "reviews.default.svc.cluster.local"
FAULTY = virtual_service("reviews", ["reviews"], {"destination": {"host": "reviews", "colour": "blue"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    xds: str
    debug: str

    async def statuses(self) -> dict[str, dict[str, Any]]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = (await client.get(f"http://{self.debug}/debug/statusz")).json()
        return {f"{each['kind']}/{each['name']}": each for each in answer["resources"]}

    async def until(self, name: str, **wanted: object) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                status = (await self.statuses()).get(name, {})
                if all(status.get(field) == value for field, value in wanted.items()):
                    return status
                await asyncio.sleep(0.02)

    async def clusters_of(self, host: str) -> list[str]:
        """Returns the destination of requests for a host."""
        async with (
            grpc.aio.insecure_channel(self.xds) as channel,
            DeltaClient(channel, node_of("pod")) as proxy,
        ):
            await proxy.subscribe(ROUTE, "9080")
            response = await proxy.accept(ROUTE)
        config = RouteConfiguration()
        response.resources[0].resource.Unpack(config)
        (found,) = [each for each in config.virtual_hosts if host in each.domains]
        return [route.route.cluster for route in found.routes]


@pytest.fixture
def mesh(tmp_path: Path) -> MeshFolder:
    folder = MeshFolder(tmp_path / "mesh")
    folder.write("reviews", service("reviews"), destination_rule("reviews", "reviews", "v1", "v3"))
    folder.write("route", virtual_service("reviews", ["reviews"], destination("reviews", "v3")))
    return folder


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    addresses = tmp_path / "addresses.json"
    where = ["--folder", str(tmp_path / "mesh"), "--state-dir", str(tmp_path / "state")]
    flags = [*where, "--addresses-file", str(addresses), *FREE_PORTS]
    plane, stop = ControlPlane(read_settings(flags, {})), asyncio.Event()
    try:
        await plane.start()
        following = asyncio.create_task(plane.follow(stop), name="follow")
        ports = json.loads(addresses.read_text())
        yield Running(xds=ports["xds"], debug=ports["debug"])
        stop.set()
        await following
    finally:
        await plane.close()


def write_faulty(mesh: MeshFolder) -> None:
    mesh.write("route", FAULTY)


def write_no_yaml(mesh: MeshFolder) -> None:
    mesh.write_text("route", "kind: [VirtualService")


def write_unknown_version(mesh: MeshFolder) -> None:
    mesh.write("route", {**FAULTY, "apiVersion": "networking.istio.io/v9"})


@pytest.mark.parametrize("spoil", [write_faulty, write_no_yaml, write_unknown_version])
async def test_the_last_good_version_is_in_force_after_a_restart(
    mesh: MeshFolder, tmp_path: Path, spoil: Any
) -> None:
    async with running(tmp_path) as plane:
        spoil(mesh)
        before = await plane.until("VirtualService/reviews", state="QUARANTINED")
        assert await plane.clusters_of(REVIEWS) == [f"outbound|9080|v3|{REVIEWS}"]
    for _ in range(2):
        async with running(tmp_path) as plane:
            after = await plane.until("VirtualService/reviews", state="QUARANTINED")
            assert after["in_force"]
            assert after["reasons"] == before["reasons"]
            assert await plane.clusters_of(REVIEWS) == [f"outbound|9080|v3|{REVIEWS}"]
