"""The statistics of the control plane's cluster: the sidecar and Envoy show the same numbers when they follow
the same ADS server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from protos.type_urls import CLUSTER
from tests.support.admin_client import ask
from tests.support.ads_follower import accept, ads_document
from tests.support.ads_server import TIMEOUT_S, AdsServer, Stream, ads_server
from tests.support.envoy import envoy_command
from tests.support.envoy_config import address, static_cluster, upstream_tls
from tests.support.processes import Child, child, free_port

# Those of connections differ later: the sidecar has one for each call, and Envoy keeps the first.
OF_STREAMS = [
    "upstream_rq_total",
    "upstream_rq_active",
    "upstream_rq_completed",
    "upstream_rq_2xx",
    "upstream_rq_5xx",
    "upstream_rq_rx_reset",
    "upstream_rq_pending_active",
    "upstream_rq_cancelled",
    "upstream_rq_timeout",
    "upstream_cx_active",
    "upstream_cx_connect_fail",
    "upstream_cx_connect_timeout",
    "http2.streams_active",
]
OF_CONNECTIONS = ["upstream_cx_total", "upstream_cx_http2_total", "upstream_rq_pending_total"]
OF_HOST = ["cx_active", "cx_connect_fail", "rq_active", "rq_error", "rq_success", "rq_timeout", "rq_total"]


class Proxy:
    def __init__(self, process: Child, admin: int) -> None:
        self.process = process
        self._admin = admin

    def counted(self, *names: str) -> dict[str, int]:
        """Those of the cluster."""
        items = ask(self._admin, "/stats?format=json&filter=^cluster\\.xds\\.").json["stats"]
        values = {item["name"]: item["value"] for item in items if "name" in item}
        return {name: values.get(f"cluster.xds.{name}", 0) for name in names}

    def host(self) -> dict[str, int]:
        (status,) = [
            each
            for each in ask(self._admin, "/clusters?format=json").json["cluster_statuses"]
            if each["name"] == "xds"
        ]
        (host,) = status["host_statuses"]
        values = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
        return {name: values[name] for name in OF_HOST}


@contextmanager
def following(folder: Path, kind: str, server: AdsServer, **cluster: Any) -> Iterator[Proxy]:
    admin = free_port()
    document = ads_document(server.port, **cluster) | {"admin": {"address": address(admin)}}
    document["static_resources"]["clusters"] = document["static_resources"]["clusters"][2:]
    file = folder / f"{kind}.json"
    file.write_text(json.dumps(document))
    flags = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    sidecar = [sys.executable, "-m", "sidecar", "-c", str(file), "--concurrency", "2", *flags]
    command = envoy_command(file) if kind == "envoy" else sidecar
    with child(command, folder / f"{kind}.log") as process:
        process.wait_for_port(admin)
        yield Proxy(process, admin)


async def begin(server: AdsServer) -> Stream:
    stream = await accept(server)
    await stream.send_delta(CLUSTER, static_cluster("kept", 1))
    return stream


async def story(folder: Path, kind: str) -> list[dict[str, int]]:
    """The numbers while the stream is open, and after the server has ended it: with a status, then with an
    error."""
    numbers = []
    async with ads_server() as server:
        with following(folder, kind, server) as proxy:
            stream = await begin(server)
            first = await asyncio.to_thread(proxy.counted, *OF_STREAMS, *OF_CONNECTIONS)
            numbers.append(first | await asyncio.to_thread(proxy.host))
            for status in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE):
                stream.close(error=status)
                stream = await begin(server)
                numbers.append(
                    await asyncio.to_thread(proxy.counted, *OF_STREAMS) | await asyncio.to_thread(proxy.host)
                )
    return numbers


async def test_a_stream_counts_as_in_envoy(tmp_path: Path) -> None:
    envoy, sidecar = await story(tmp_path, "envoy"), await story(tmp_path, "sidecar")
    assert sidecar == envoy
    assert [(each["upstream_rq_total"], each["upstream_rq_active"]) for each in sidecar] == [
        (1, 1),
        (2, 1),
        (3, 1),
    ]


@pytest.mark.parametrize("kind", ["envoy", "sidecar"])
async def test_a_server_that_is_not_trusted_counts_as_in_envoy(tmp_path: Path, kind: str) -> None:
    """Only the number of attempts may differ."""
    (tmp_path / "roots.pem").write_bytes(trustme.CA().cert_pem.bytes())
    certificate = trustme.CA().issue_cert("127.0.0.1")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    tls = upstream_tls(validation_context={"trusted_ca": {"filename": str(tmp_path / "roots.pem")}})
    async with ads_server(credentials=credentials) as server:
        with following(tmp_path, kind, server, transport_socket=tls) as proxy:
            await asyncio.to_thread(_check_attempts, proxy)


def _check_attempts(proxy: Proxy) -> None:
    once = [
        "ssl.fail_verify_error",
        "upstream_cx_total",
        "upstream_cx_connect_fail",
        "upstream_cx_destroy",
        "upstream_rq_5xx",
        "upstream_rq_completed",
        "upstream_rq_pending_total",
        "upstream_rq_pending_failure_eject",
    ]
    never = ["ssl.connection_error", "ssl.handshake", "upstream_cx_active", "upstream_rq_total"]
    counted: dict[str, int] = {}

    def between_attempts() -> bool:
        counted.update(proxy.counted(*once, *never))
        return counted["ssl.fail_verify_error"] > 0 and counted["upstream_cx_active"] == 0

    proxy.process.wait_for(between_attempts, "it has tried", deadline_s=TIMEOUT_S)
    attempts = counted["ssl.fail_verify_error"]
    assert counted == dict.fromkeys(once, attempts) | dict.fromkeys(never, 0)
    host = proxy.host()
    assert host["rq_error"] == host["cx_connect_fail"] >= attempts
    assert host["rq_total"] == 0
