"""The sidecar's side of the aggregated stream, through sockets, against a server that the test scripts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from envoy.service.discovery.v3.discovery_pb2 import Resource
from google.protobuf import any_pb2

from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from sidecar.xds.client import XdsClient
from sidecar.xds.decode import bootstrap_json
from tests.support.ads_follower import accept, ads_bootstrap, decoded
from tests.support.ads_server import TIMEOUT_S, ads_server
from tests.support.envoy_config import (
    changed,
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
from tests.support.xds_runtime import Runtime, running


async def test_resources_come_in_the_order_of_the_protocol_and_are_acknowledged() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime) as client:
        stream = await server.stream()
        first = await stream.request(CLUSTER)
        assert list(first.resource_names_subscribe) == ["*"]
        assert first.node.id.startswith("sidecar~127.0.0.1~pod.default")

        ack = await stream.send_delta(CLUSTER, eds_cluster("e"))
        assert ack.error_detail.message == ""
        assert not ack.HasField("node"), "the node is said once"
        assert list((await stream.request(LISTENER)).resource_names_subscribe) == ["*"]
        assert list((await stream.request(ENDPOINT)).resource_names_subscribe) == ["e"]
        assert "e" not in runtime.snapshot.clusters, "it has no hosts yet"
        await stream.send_delta(ENDPOINT, load_assignment("e", 7))
        assert runtime.snapshot.endpoints["e"].endpoints[0].address.port == 7
        assert "e" in runtime.snapshot.clusters

        await stream.send_delta(LISTENER, listener("l", http_connection_manager(rds=rds("r"))))
        assert list((await stream.request(ROUTE)).resource_names_subscribe) == ["r"]
        assert "l" not in runtime.snapshot.listeners, "it has no routes yet"
        assert not client.state.synced, "nobody is to send requests before it is served"
        await stream.send_delta(ROUTE, route_configuration("r"))
        assert "l" in runtime.snapshot.listeners
        assert "r" in runtime.snapshot.routes
        assert client.state.connected
        assert client.state.synced
        stats = client.state.stats()
        assert stats["control_plane.connected_state"] == 1
        assert stats["cluster_manager.cds.update_success"] == 1
        assert stats["listener_manager.lds.version_text"] == "1"


async def test_unreferenced_resources_are_unsubscribed() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        await stream.send_delta(CLUSTER, eds_cluster("e"), eds_cluster("f"))
        assert set((await stream.request(ENDPOINT)).resource_names_subscribe) == {"e", "f"}
        await stream.send_delta(ENDPOINT, load_assignment("e", 1), load_assignment("f", 2))
        await stream.send_delta(CLUSTER, removed=["e"])

        assert list((await stream.request(ENDPOINT)).resource_names_unsubscribe) == ["e"]
        assert "e" not in runtime.snapshot.clusters


async def test_the_good_resources_of_a_refused_response_are_in_force() -> None:
    runtime = Runtime()
    bad = {**static_cluster("bad"), "lb_policy": "RING_HASH"}
    worse = {**static_cluster("worse"), "health_checks": []}
    worse["track_cluster_stats"] = {}
    worse["filters"] = [{"name": "x"}]
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime) as client:
        stream = await accept(server)
        nack = await stream.send_delta(CLUSTER, bad, static_cluster("good"), worse)

        assert "bad: lb_policy: RING_HASH is not supported" in nack.error_detail.message
        assert "worse: filters[0].typed_config: has no @type" in nack.error_detail.message
        assert "good" in runtime.snapshot.clusters
        assert client.state.last_nack.startswith("cds: bad: lb_policy")
        dump = client.config_dump(resource="dynamic_active_clusters", name_regex="bad|good")
        error_state = dump["configs"][0]["error_state"]
        assert "RING_HASH is not supported" in error_state["details"]
        assert error_state["failed_configuration"]["name"] == "bad"
        assert dump["configs"][1]["cluster"]["name"] == "good"


async def test_a_refused_update_leaves_the_version_before_in_force() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        await stream.send_delta(CLUSTER, static_cluster("c", 1))
        before = runtime.snapshot.clusters["c"]
        nack = await stream.send_delta(
            CLUSTER, {**static_cluster("c", 2), "connect_timeout": "0s"}, version="2"
        )

        assert "c: connect_timeout: is 0, but must be greater than 0" in nack.error_detail.message
        assert runtime.snapshot.clusters["c"] is before


async def test_the_stream_uses_tls_and_refuses_an_impostor(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("control-plane.test")
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )

    def socket(roots: trustme.CA) -> dict[str, Any]:
        path = tmp_path / f"{id(roots)}.pem"
        roots.cert_pem.write_to_path(str(path))
        socket = upstream_tls(validation_context={"trusted_ca": {"filename": str(path)}})
        socket["typed_config"]["sni"] = "control-plane.test"
        return socket

    async with ads_server(credentials=credentials) as server:
        async with running(ads_bootstrap(server.port, transport_socket=socket(authority)), Runtime()):
            await accept(server)
        runtime = Runtime()
        impostor = ads_bootstrap(server.port, transport_socket=socket(other))
        tries = asyncio.Queue[float]()

        async def count(seconds: float) -> None:
            tries.put_nowait(seconds)
            await asyncio.sleep(0.02)

        client = XdsClient(impostor, runtime, sleep=count)
        task = asyncio.create_task(client.run())
        await asyncio.wait_for(tries.get(), TIMEOUT_S)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert "UNAVAILABLE" in client.state.last_error
        assert client.state.stats()["cluster_manager.cds.update_failure"] == 1


async def test_a_listener_whose_port_is_taken_is_refused_and_the_others_serve() -> None:
    runtime = Runtime()
    runtime.refuses["taken"] = "127.0.0.1:80: address in use"
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime) as client:
        stream = await accept(server)
        await stream.send_delta(CLUSTER)
        await stream.request(LISTENER)
        nack = await stream.send_delta(
            LISTENER, listener("taken", tcp_proxy()), listener("free", tcp_proxy())
        )

        assert "taken: listeners[taken].address: 127.0.0.1:80: address in use" in nack.error_detail.message
        assert "free" in runtime.snapshot.listeners
        assert "taken" not in runtime.snapshot.listeners
        dump = client.config_dump(resource="dynamic_listeners", name_regex="taken")
        assert "address in use" in dump["configs"][0]["error_state"]["details"]


async def test_a_listener_that_is_ready_late_and_cannot_be_used_is_refused_then() -> None:
    runtime = Runtime()
    runtime.refuses["l"] = "address in use"
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        await stream.send_delta(CLUSTER)
        await stream.request(LISTENER)
        ack = await stream.send_delta(LISTENER, listener("l", http_connection_manager(rds=rds("r"))))
        assert ack.error_detail.message == ""
        await stream.request(ROUTE)
        assert (await stream.send_delta(ROUTE, route_configuration("r"))).error_detail.message == ""
        assert "address in use" in (await stream.request(LISTENER)).error_detail.message


async def test_state_of_the_world_removes_resources_that_are_not_sent_again() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port, variant="GRPC"), runtime):
        stream = await server.stream()
        first = await stream.request(CLUSTER)
        assert (list(first.resource_names), first.version_info) == ([], "")
        ack = await stream.send_sotw(CLUSTER, static_cluster("c"), static_cluster("d"))
        assert (ack.version_info, ack.error_detail.message) == ("1", "")
        bad = {**static_cluster("d"), "lb_policy": "MAGLEV"}
        nack = await stream.send_sotw(CLUSTER, static_cluster("c"), bad, version="2")
        assert nack.version_info == "1", "the version that holds"
        assert "MAGLEV" in nack.error_detail.message
        assert "d" in runtime.snapshot.clusters, "as it was"
        await stream.send_sotw(CLUSTER, static_cluster("c"), version="3")
        assert {"c"} == runtime.snapshot.clusters.keys() - {"a", "b", "xds"}


async def test_a_resource_that_names_itself_twice_or_wrongly_is_refused() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        twice = await stream.send_delta(CLUSTER, static_cluster("c"), static_cluster("c", 2))
        assert "c: appears 2 times in the response" in twice.error_detail.message
        assert "c" not in runtime.snapshot.clusters
        body = any_pb2.Any(type_url=LISTENER, value=b"")
        wrong = await stream.send_delta(CLUSTER, Resource(name="w", version="1", resource=body))
        assert "w: is of type" in wrong.error_detail.message
        garbage = any_pb2.Any(type_url=CLUSTER, value=b"\xff\xff")
        nack = await stream.send_delta(CLUSTER, Resource(name="g", version="1", resource=garbage))
        assert "g: is not a valid envoy.config.cluster.v3.Cluster" in nack.error_detail.message
        static = await stream.send_delta(CLUSTER, static_cluster("a", 9))
        assert "the name of a static resource" in static.error_detail.message


async def test_an_assignment_that_does_not_exist_ends_the_wait_for_it() -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        await stream.send_delta(CLUSTER, eds_cluster("e"))
        await stream.request(ENDPOINT)
        await stream.send_delta(ENDPOINT, removed=["e"])
        assert "e" in runtime.snapshot.clusters
        assert "e" not in runtime.snapshot.endpoints


async def test_the_wait_for_an_assignment_is_bounded() -> None:
    runtime = Runtime()
    hasty = eds_cluster("e")
    hasty["eds_cluster_config"]["eds_config"]["initial_fetch_timeout"] = "0.05s"
    async with ads_server() as server, running(ads_bootstrap(server.port), runtime):
        stream = await accept(server)
        await stream.send_delta(CLUSTER, hasty)
        await runtime.until(lambda snapshot: "e" in snapshot.clusters)


async def test_a_message_above_the_limit_ends_the_stream_but_not_the_service() -> None:
    runtime = Runtime()
    async with ads_server() as server:
        boot = ads_bootstrap(server.port)
        document = bootstrap_json(boot.message)
        service = {"envoy_grpc": {"cluster_name": "xds", "max_receive_message_length": 10_000}}
        boot = decoded(changed(document, "dynamic_resources.ads_config.grpc_services[0]", service))
        async with running(boot, runtime) as client:
            stream = await accept(server)
            await stream.send_delta(CLUSTER, static_cluster("c"))
            huge = static_cluster("huge", *range(1, 2000))
            sending = asyncio.create_task(stream.send_delta(CLUSTER, huge))
            again = await server.stream()
            sending.cancel()
            assert dict((await again.request(CLUSTER)).initial_resource_versions) == {"c": "1"}
            assert "c" in runtime.snapshot.clusters
            assert "RESOURCE_EXHAUSTED" in client.state.last_error


@pytest.mark.parametrize("variant", ["GRPC", "DELTA_GRPC"])
async def test_the_same_object_serves_on_when_a_resource_is_sent_again_unchanged(variant: str) -> None:
    runtime = Runtime()
    async with ads_server() as server, running(ads_bootstrap(server.port, variant=variant), runtime):
        stream = await accept(server)
        send = stream.send_delta if variant == "DELTA_GRPC" else stream.send_sotw
        await send(CLUSTER, static_cluster("c"))
        before, count = runtime.snapshot.clusters["c"], len(runtime.history)
        await send(CLUSTER, static_cluster("c"), version="2")
        assert runtime.snapshot.clusters["c"] is before
        assert len(runtime.history) == count
