"""The complete control plane in the test's own event loop: everything that it starts must end in every
case."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from pathlib import Path

import grpc
import pytest

from controlplane.errors import SettingsError
from controlplane.networking import SidecarScope
from controlplane.runtime import ControlPlane
from controlplane.settings import read_settings
from controlplane.sources.files import FolderSource
from protos.type_urls import ROUTE
from tests.support.ads_client import DeltaClient, node_of
from tests.support.control_plane import FREE_PORTS
from tests.support.documents import document, service
from tests.support.mesh_folder import MeshFolder


def control_plane(tmp_path: Path, *flags: str) -> ControlPlane:
    (tmp_path / "mesh").mkdir(exist_ok=True)
    where = ["--folder", str(tmp_path / "mesh"), "--state-dir", str(tmp_path / "state")]
    return ControlPlane(read_settings([*where, *FREE_PORTS, *flags], {}))


def tasks() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def until_no_task_is_left() -> None:
    async with asyncio.timeout(5):
        while tasks():
            await asyncio.sleep(0.01)


async def test_nothing_is_left_when_it_was_stopped(tmp_path: Path) -> None:
    plane = control_plane(tmp_path)
    await plane.start()
    stop = asyncio.Event()
    stop.set()
    await plane.follow(stop)
    await plane.close()
    await until_no_task_is_left()


async def test_nothing_is_left_when_watching_was_cancelled(tmp_path: Path) -> None:
    plane = control_plane(tmp_path)
    await plane.start()
    following = asyncio.create_task(plane.follow(asyncio.Event()), name="following")
    async with asyncio.timeout(5):
        while "source-watch" not in tasks():
            await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    await plane.close()
    await until_no_task_is_left()


async def test_old_snapshots_are_not_kept(tmp_path: Path) -> None:
    before = count_of_scopes()  # of other tests in this process
    folder, addresses = MeshFolder(tmp_path / "mesh"), tmp_path / "addresses.json"
    folder.write("service", service("reviews"))
    plane = control_plane(tmp_path, "--addresses-file", str(addresses))
    await plane.start()
    following = asyncio.create_task(plane.follow(asyncio.Event()), name="following")
    target = json.loads(addresses.read_text())["xds"]
    async with grpc.aio.insecure_channel(target) as channel, DeltaClient(channel, node_of("pod")) as proxy:
        await proxy.subscribe(ROUTE, "9080")
        await proxy.accept(ROUTE)
        for number in range(6):
            host = f"host-{number}.example.com"
            route = {"match": [{"port": 9080}], "directResponse": {"status": 200 + number}}
            spec = {"hosts": ["reviews", host], "http": [route]}
            folder.write("route", document("VirtualService", "a", spec))
            await proxy.accept(ROUTE)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await plane.close()
    assert count_of_scopes() <= before + 2


def count_of_scopes() -> int:
    gc.collect()
    return sum(isinstance(each, SidecarScope) for each in gc.get_objects())


async def test_a_failed_watch_of_the_folder_ends_the_process_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: FolderSource) -> None:
        raise SettingsError("the folder went away")

    monkeypatch.setattr(FolderSource, "watch", fail)
    plane = control_plane(tmp_path)
    await plane.start()
    with pytest.raises(SettingsError, match="the folder went away"):
        await plane.follow(asyncio.Event())
    await plane.close()


async def test_a_failed_start_releases_its_ports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        debug_port = probe.getsockname()[1]
        probe.close()
        metrics_port = taken.getsockname()[1]
        plane = control_plane(tmp_path, "--debug-port", str(debug_port), "--metrics-port", str(metrics_port))
        with pytest.raises(SettingsError, match="for metrics: Address already in use"):
            await plane.start()
    await plane.close()
    with socket.create_server(("127.0.0.1", debug_port)):
        pass
    await until_no_task_is_left()


async def test_plaintext_may_be_off(tmp_path: Path) -> None:
    addresses = tmp_path / "addresses.json"
    plane = control_plane(tmp_path, "--xds-port", "off", "--addresses-file", str(addresses))
    await plane.start()
    await plane.close()
    assert json.loads(addresses.read_text()).keys() == {"xds_tls", "debug", "metrics"}


async def test_close_may_come_without_a_start(tmp_path: Path) -> None:
    await control_plane(tmp_path).close()
