"""The name table on its way: from replicas of a control plane, and to a sidecar of any control plane."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import Node

from protos.nds_pb2 import NameTable
from protos.type_urls import CLUSTER, LISTENER, NAME_TABLE, NAME_TABLE_NAME
from tests.support.ads_client import DeltaClient, SotwClient, node_of
from tests.support.ads_follower import accept, ads_bootstrap
from tests.support.ads_server import ads_server
from tests.support.control_plane import control_plane
from tests.support.documents import document, service
from tests.support.envoy_config import listener, static_cluster, tcp_proxy
from tests.support.listening import eventually
from tests.support.mesh_folder import MeshFolder
from tests.support.xds_runtime import Runtime, running

TABLE = {"table": {"a.example.com": {"ips": ["10.0.0.1"]}}}


def entry(number: int) -> dict[str, object]:
    spec = {
        "hosts": [f"db{number}.example.com"],
        "ports": [{"number": 5432, "name": "tcp", "protocol": "TCP"}],
        "resolution": "DNS",
    }
    return document("ServiceEntry", f"db{number}", spec)


def capturing() -> Node:
    node = node_of("pod")
    node.metadata.update({"DNS_CAPTURE": "true"})
    return node


async def table_from(xds: str) -> NameTable:
    async with grpc.aio.insecure_channel(xds) as channel, SotwClient(channel, capturing()) as proxy:
        await proxy.subscribe(NAME_TABLE)
        (packed,) = (await proxy.accept(NAME_TABLE)).resources
    table = NameTable()
    assert packed.Unpack(table)
    return table


async def test_replicas_and_restarts_agree_and_a_new_host_moves_no_other(tmp_path: Path) -> None:
    folder = MeshFolder(tmp_path / "mesh")
    folder.write("all", service("reviews", clusterIP="10.96.0.7"), *map(entry, range(100)))
    with control_plane(folder.path, tmp_path / "one") as one:
        before = await table_from(one.xds)
        assert len(before.table) == 101
        with control_plane(folder.path, tmp_path / "other") as other:
            assert await table_from(other.xds) == before
        async with grpc.aio.insecure_channel(one.xds) as channel, DeltaClient(channel, capturing()) as proxy:
            await proxy.subscribe(NAME_TABLE, "*")
            assert [each.name for each in (await proxy.accept(NAME_TABLE)).resources] == [NAME_TABLE_NAME]
            folder.write("more", entry(100))
            (changed,) = (await proxy.accept(NAME_TABLE)).resources
        after = NameTable()
        assert changed.resource.Unpack(after)
        assert after.table.keys() - before.table.keys() == {"db100.example.com"}
        assert all(after.table[host] == before.table[host] for host in before.table)
    with control_plane(folder.path, tmp_path / "one") as again:
        assert await table_from(again.xds) == after


async def test_a_sidecar_requests_names_with_listeners_and_only_if_it_captures_dns() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime, names=True) as client:
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        await stream.request(LISTENER)
        assert list((await stream.request(NAME_TABLE)).resource_names_subscribe) == ["*"]
        await stream.send_delta(LISTENER, listener("l", tcp_proxy("c")))
        assert not client.state.synced
        await stream.send_delta(NAME_TABLE, TABLE)
        assert client.state.synced
        assert runtime.snapshot.names[NAME_TABLE_NAME].hosts["a.example.com"].v4 == ("10.0.0.1",)
    async with ads_server() as server, running(ads_bootstrap(server.port), Runtime()) as client:
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        await stream.send_delta(LISTENER, listener("l", tcp_proxy("c")))
        assert client.state.synced
        assert NAME_TABLE not in {each.type_url for each in stream.received}


async def test_an_invalid_table_is_refused_and_the_last_good_one_serves() -> None:
    runtime = Runtime()
    boot = ads_bootstrap
    async with ads_server() as server, running(boot(server.port, variant="GRPC"), runtime, names=True):
        stream = await accept(server)
        await stream.send_sotw(CLUSTER, static_cluster("c", 1))
        await stream.send_sotw(NAME_TABLE, TABLE)
        nack = await stream.send_sotw(
            NAME_TABLE, {"table": {"a.example.com": {"ips": ["nonsense"]}}}, version="2"
        )
        assert "table[a.example.com].ips[0]: 'nonsense' is not an IP address" in nack.error_detail.message
        assert runtime.snapshot.names[NAME_TABLE_NAME].hosts["a.example.com"].v4 == ("10.0.0.1",)


@pytest.mark.parametrize("error", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED])
async def test_a_control_plane_that_knows_no_names_is_followed_without_them(error: grpc.StatusCode) -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime, names=True) as client:
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        await stream.request(NAME_TABLE)
        stream.close(error=error)
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        await stream.send_delta(LISTENER, listener("l", tcp_proxy("c")))
        await eventually(lambda: client.state.synced)
        assert "l" in runtime.snapshot.listeners
        assert NAME_TABLE not in {each.type_url for each in stream.received}


async def test_the_wait_for_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.xds.client.NAMES_TIMEOUT_S", 0.05)
    async with ads_server() as server, running(ads_bootstrap(server.port), Runtime(), names=True) as client:
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        await stream.send_delta(LISTENER, listener("l", tcp_proxy("c")))
        await eventually(lambda: client.state.synced)
