"""The sidecar's own calls in ``/stats``, ``/clusters`` and the Prometheus page, as an operator reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import yaml

from protos.type_urls import CLUSTER
from tests.support.ads_follower import accept, ads_document
from tests.support.ads_server import TIMEOUT_S, ads_server
from tests.support.control_plane import control_plane, create_token, outrigger
from tests.support.envoy_config import changed, load_assignment, static_cluster
from tests.support.identities import TestTrustDomain
from tests.support.running_sidecar import Document, RunningSidecar, running

STREAM = {
    "upstream_cx_total": 1,
    "upstream_cx_active": 1,
    "upstream_cx_http2_total": 1,
    "upstream_rq_total": 1,
    "upstream_rq_active": 1,
    "upstream_rq_pending_total": 1,
    "upstream_rq_completed": 1,
    "upstream_rq_2xx": 1,
    "http2.streams_active": 1,
}
BYTES = {"upstream_cx_rx_bytes_total", "upstream_cx_tx_bytes_total"}


def replicas(*ports: int) -> Document:
    """The first has the highest priority."""
    assignment = load_assignment("xds", *ports)
    (group,) = assignment["endpoints"]
    assignment["endpoints"] = [
        {"priority": priority, "lb_endpoints": [endpoint]}
        for priority, endpoint in enumerate(group["lb_endpoints"])
    ]
    return ads_document(ports[0], load_assignment=assignment)


def counted(sidecar: RunningSidecar, cluster: str = "xds") -> dict[str, int]:
    """What calls have moved."""
    page = sidecar.ask(f"/stats?format=json&usedonly&filter=^cluster\\.{cluster}\\.")
    values = {item["name"]: item["value"] for item in page.json["stats"] if "name" in item}
    names = {name: name.removeprefix(f"cluster.{cluster}.") for name in values}
    static = ("update_", "membership_", "outlier_", "lb_")
    return {names[name]: value for name, value in values.items() if not names[name].startswith(static)}


def hosts(sidecar: RunningSidecar, cluster: str = "xds") -> dict[int, dict[str, int]]:
    """The statistics that are not 0, by the port of the host."""
    found: dict[int, dict[str, int]] = {}
    for line in sidecar.ask("/clusters").body.splitlines():
        name, *parts = line.split("::")
        if name == cluster and len(parts) == 3 and parts[1].startswith(("cx_", "rq_")):
            stats = found.setdefault(int(parts[0].rpartition(":")[2]), {})
            if parts[2] != "0":
                stats[parts[1]] = int(parts[2])
    return found


def until(sidecar: RunningSidecar, expected: Mapping[str, int], cluster: str = "xds") -> dict[str, int]:
    """Waits until all these have their values."""
    values: dict[str, int] = {}

    def reached() -> bool:
        values.clear()
        values.update(counted(sidecar, cluster))
        return all(values.get(name, 0) == value for name, value in expected.items())

    try:
        sidecar.process.wait_for(reached, f"{expected}", deadline_s=TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"{values}: {error}") from None
    return dict(values)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_stream_counts_in_its_cluster_and_moves_with_its_replica(
    tmp_path: Path, workers: str
) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(ads_server())
        first = await stack.enter_async_context(ads_server())
        port, kill = await stack.enter_async_context(killable(first.port))
        document = replicas(port, other.port)
        sidecar = stack.enter_context(running(tmp_path, document, "--concurrency", workers))
        stream = await accept(first)
        await stream.send_delta(CLUSTER, static_cluster("kept", 1))

        values = await asyncio.to_thread(until, sidecar, STREAM)
        assert values.keys() == {*STREAM, *BYTES}
        assert await asyncio.to_thread(hosts, sidecar) == {
            port: {"cx_total": 1, "cx_active": 1, "rq_total": 1, "rq_active": 1},
            other.port: {},
        }
        page = await asyncio.to_thread(sidecar.ask, "/stats/prometheus")
        assert 'envoy_cluster_upstream_cx_active{envoy_cluster_name="xds"} 1\n' in page.body
        assert 'envoy_cluster_membership_total{envoy_cluster_name="xds"} 2\n' in page.body

        kill()
        moved = await accept(other)
        await moved.send_delta(CLUSTER, static_cluster("kept", 1))
        values = await asyncio.to_thread(
            until, sidecar, {"upstream_cx_total": 2, "upstream_cx_active": 1, "upstream_rq_2xx": 2}
        )
        assert values["upstream_cx_destroy"] == values["upstream_rq_active"] == 1
        assert values["upstream_cx_destroy_remote_with_active_rq"] == 1
        assert await asyncio.to_thread(hosts, sidecar) == {
            port: {"cx_total": 1, "rq_total": 1, "rq_error": 1},
            other.port: {"cx_total": 1, "cx_active": 1, "rq_total": 1, "rq_active": 1},
        }


@asynccontextmanager
async def killable(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A port that forwards to another one, and a function that resets its connections and closes it."""
    writers: list[asyncio.StreamWriter] = []
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, up_writer))
        for source, sink in ((reader, up_writer), (up_reader, writer)):
            tasks.add(asyncio.create_task(copy(source, sink)))

    server = await asyncio.start_server(forward, "127.0.0.1", 0)

    def kill() -> None:
        server.close()
        for writer in writers:
            writer.transport.abort()

    try:
        yield server.sockets[0].getsockname()[1], kill
    finally:
        kill()
        await asyncio.gather(*tasks)


async def test_failures_to_connect_count_for_each_replica(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ended = await stack.enter_async_context(AsyncExitStack())
        servers = [await ended.enter_async_context(ads_server()) for _ in range(2)]
        ports = [server.port for server in servers]
        sidecar = stack.enter_context(running(tmp_path, replicas(*ports), "--concurrency", "1"))
        stream = await accept(servers[0])
        await stream.send_delta(CLUSTER, static_cluster("kept", 1))
        await ended.aclose()
        await asyncio.to_thread(_until_both_have_failed, sidecar)
        again = await stack.enter_async_context(ads_server(port=ports[0]))
        stream = await accept(again)
        await stream.send_delta(CLUSTER, static_cluster("kept", 1))
        values = await asyncio.to_thread(until, sidecar, {"upstream_rq_2xx": 2, "upstream_cx_active": 1})
        failed = values["upstream_cx_connect_fail"]
        assert values["upstream_rq_pending_failure_eject"] == failed
        assert values["upstream_cx_total"] == failed + 2
        assert values["upstream_cx_destroy"] == failed + 1
        assert values["upstream_rq_5xx"] >= 1, "a call that reaches no replica"
        assert values["upstream_rq_completed"] == values["upstream_rq_5xx"] + 2
        assert (values["upstream_rq_total"], values["upstream_rq_active"]) == (2, 1)
        by_host = await asyncio.to_thread(hosts, sidecar)
        assert sum(host["cx_connect_fail"] for host in by_host.values()) == failed


def _until_both_have_failed(sidecar: RunningSidecar) -> None:
    sidecar.process.wait_for(
        lambda: all("cx_connect_fail" in host for host in hosts(sidecar).values()), "both have failed"
    )


def test_signing_requests_count_in_the_cluster_that_has_the_ca(tmp_path: Path) -> None:
    """The stream and the CA call are for the same host. Then another CA's roots: no handshake succeeds."""
    with control_plane(tmp_path / "config", tmp_path / "state") as plane:
        token = tmp_path / "token"
        token.write_text(create_token(plane.state_dir, "default", "web"))
        identity = ("--ca-address", plane.xds_tls, "--ca-cert", str(plane.root_certificate))
        made = outrigger(
            *("bootstrap", "--name", "web", "--namespace", "default", "--service-account", "web"),
            *("--xds-address", plane.xds_tls, "--ca-cert", plane.root_certificate),
            *("--interception", "NONE"),
        )
        document = yaml.safe_load(made.stdout)
        flags = (*identity, "--token-file", str(token), "--concurrency", "2")
        port = int(plane.xds_tls.rpartition(":")[2])
        with running(tmp_path, document, *flags) as sidecar:
            sidecar.wait_for_state("LIVE")
            expected = {
                "upstream_cx_total": 2,
                "upstream_cx_active": 1,
                "upstream_cx_destroy": 1,
                "upstream_rq_total": 2,
                "upstream_rq_active": 1,
                "upstream_rq_2xx": 2,
                "ssl.handshake": 2,
                "http2.streams_active": 1,
                "http2.trailers": 1,
            }
            until(sidecar, expected, "xds-grpc")
            assert hosts(sidecar, "xds-grpc") == {
                port: {"cx_total": 2, "cx_active": 1, "rq_total": 2, "rq_active": 1, "rq_success": 1}
            }

        roots = tmp_path / "others.pem"
        roots.write_text(TestTrustDomain().root_pem)
        validation = "common_tls_context.validation_context.trusted_ca.filename"
        socket = "static_resources.clusters[0].transport_socket.typed_config"
        document = changed(document, f"{socket}.{validation}", str(roots))
        (tmp_path / "addresses").unlink()
        with running(tmp_path, document, *flags) as sidecar:
            started_s = time.monotonic()
            while "ssl.fail_verify_error" not in (values := counted(sidecar, "xds-grpc")):
                assert time.monotonic() < started_s + TIMEOUT_S, values
            assert values["upstream_cx_connect_fail"] == values["ssl.fail_verify_error"]
