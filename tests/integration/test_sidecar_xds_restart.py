"""A sidecar after a restart, and after a lost stream: the configuration that it keeps and requests."""

from __future__ import annotations

import stat
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import trustme

from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from sidecar.xds.client import XdsClient
from tests.support.ads_follower import accept, ads_bootstrap
from tests.support.ads_server import ads_server
from tests.support.envoy_config import (
    eds_cluster,
    http_connection_manager,
    listener,
    load_assignment,
    rds,
    route_configuration,
    static_cluster,
    tcp_proxy,
    upstream_tls,
)
from tests.support.listening import eventually
from tests.support.xds_runtime import Runtime, running


async def test_a_reconnect_sends_the_held_versions_and_interrupts_no_service() -> None:
    runtime = Runtime()
    async with ads_server() as first:
        boot, port = ads_bootstrap(first.port), first.port
        task_runtime = running(boot, runtime)
        client = await task_runtime.__aenter__()
        stream = await accept(first)
        await stream.send_delta(CLUSTER, eds_cluster("e"), version="7")
        await stream.send_delta(ENDPOINT, load_assignment("e", 1), version="8")
        await stream.send_delta(LISTENER, listener("l", tcp_proxy("e")), version="9")
    held = runtime.snapshot
    try:
        async with ads_server(port=port) as second:
            stream = await second.stream()
            clusters = await stream.request(CLUSTER)
            assert dict(clusters.initial_resource_versions) == {"e": "7"}
            endpoints = await stream.request(ENDPOINT)
            assert dict(endpoints.initial_resource_versions) == {"e": "8"}
            assert dict((await stream.request(LISTENER)).initial_resource_versions) == {"l": "9"}
            assert runtime.snapshot is held
            assert len(runtime.history) == len(set(map(id, runtime.history)))
            await stream.send_delta(CLUSTER, removed=["e"])
            await runtime.until(lambda snapshot: "e" not in snapshot.clusters)
            assert client.state.connected
    finally:
        await task_runtime.__aexit__(None, None, None)


async def test_the_token_is_read_for_each_stream() -> None:
    tokens = iter(("first", "second"))
    runtime = Runtime()
    async with (
        ads_server() as server,
        running(ads_bootstrap(server.port), runtime, token=lambda: next(tokens)),
    ):
        stream = await server.stream()
        assert stream.metadata["authorization"] == "Bearer first"
        stream.close()
        assert (await server.stream()).metadata["authorization"] == "Bearer second"


async def test_a_replaced_root_is_read_for_the_next_stream(tmp_path: Path) -> None:
    """As when a mounted ConfigMap changes: the client is neither restarted nor notified."""
    roots = tmp_path / "root-cert.pem"
    socket = upstream_tls(validation_context={"trusted_ca": {"filename": str(roots)}})
    socket["typed_config"]["sni"] = "control-plane.test"

    def replaced() -> grpc.ServerCredentials:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(roots))
        certificate = authority.issue_cert("control-plane.test")
        pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
        return grpc.ssl_server_credentials([pair])

    async with AsyncExitStack() as stack:
        async with ads_server(credentials=replaced()) as server:
            started = running(ads_bootstrap(server.port, transport_socket=socket), Runtime())
            client = await stack.enter_async_context(started)
            await accept(server)
        # Gone for a while, as in a mount that is being changed: tried again, as a lost connection is.
        roots.unlink()
        await eventually(lambda: "cannot be read" in client.state.last_error)
        async with ads_server(port=server.port, credentials=replaced()) as server:
            await accept(server)


async def test_a_restart_without_a_control_plane_serves_the_last_configuration(tmp_path: Path) -> None:
    runtime = Runtime()
    async with ads_server() as server:
        boot = ads_bootstrap(server.port)
        async with running(boot, runtime, cache_dir=tmp_path):
            stream = await accept(server)
            await stream.send_delta(CLUSTER, eds_cluster("e"))
            await stream.send_delta(ENDPOINT, load_assignment("e", 7))
            await stream.send_delta(LISTENER, listener("l", http_connection_manager(rds=rds("r"))))
            await stream.send_delta(ROUTE, route_configuration("r"))
            await runtime.until(lambda snapshot: "l" in snapshot.listeners)
    (saved,) = tmp_path.iterdir()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600

    again = Runtime()
    client = XdsClient(boot, again, cache_dir=tmp_path)
    last_good = client.last_good()
    assert last_good is not None
    assert last_good.endpoints["e"].endpoints[0].address.port == 7
    async with running(boot, again, cache_dir=tmp_path):
        snapshot = await again.until(lambda snapshot: "l" in snapshot.listeners)
        assert snapshot.routes["r"] == runtime.snapshot.routes["r"]


async def test_after_a_restart_all_resources_are_requested_and_removed_ones_go(tmp_path: Path) -> None:
    async with ads_server() as server:
        boot = ads_bootstrap(server.port)
        runtime = Runtime()
        async with running(boot, runtime, cache_dir=tmp_path):
            stream = await accept(server)
            await stream.send_delta(CLUSTER, static_cluster("old"), static_cluster("kept"))
        runtime = Runtime()
        async with running(boot, runtime, cache_dir=tmp_path):
            stream = await server.stream()
            request = await stream.request(CLUSTER)
            assert dict(request.initial_resource_versions) == {"old": "", "kept": ""}
            await stream.send_delta(CLUSTER, static_cluster("kept"), removed=["old"])
            await runtime.until(lambda snapshot: "old" not in snapshot.clusters)
            assert "kept" in runtime.snapshot.clusters
