"""Clients and servers that nobody here wrote: curl, h2load, nghttpd, nghttpx."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.config.codec_type import CodecType
from sidecar.config.tls import DownstreamTls
from tests.support import envoy_config
from tests.support.clusters import at_port, static_cluster
from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    route_configuration,
)
from tests.support.flaky_upstream import flaky_upstream
from tests.support.http2_peer import http2_upstream
from tests.support.http2_proxy import MANAGER, http2_hop, proxy_to
from tests.support.identities import REVIEWS, TestTrustDomain, mesh_parameters
from tests.support.processes import free_port
from tests.support.running_sidecar import running
from tests.support.running_stack import running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

LARGE = bytes(range(256)) * 8000


def tool(name: str) -> str:
    path = shutil.which(name, path="/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


async def run(*command: str, status: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == status, output[-2000:]
    return output.decode(errors="replace")


async def curl(*arguments: str, status: int = 0) -> str:
    return await run(tool("curl"), "--silent", "--show-error", "--max-time", "20", *arguments, status=status)


@asynccontextmanager
async def started(*command: str, port: int) -> AsyncIterator[None]:
    """A server, from when it accepts connections."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    break
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_curl_with_prior_knowledge(tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(LARGE)

    async with flaky_upstream("a") as upstream, proxy_to(upstream.endpoint, CodecType.HTTP1) as stack:

        async def return_it(exchange: object) -> None:
            exchange.answer(200, exchange.body)  # type: ignore[attr-defined]

        upstream.behave = return_it
        url = f"http://127.0.0.1:{stack.port}/"
        about = await curl(
            "--http2-prior-knowledge",
            "--data-binary",
            f"@{sent}",
            "--output",
            str(received),
            "--write-out",
            "%{json}",
            url,
        )
        assert (json.loads(about)["http_version"], json.loads(about)["response_code"]) == ("2", 200)
        assert received.read_bytes() == LARGE


@pytest.mark.parametrize(("option", "version"), [("--http2", "2"), ("--http1.1", "1.1")])
async def test_curl_over_tls_gets_the_version_that_it_asks_for(option: str, version: str) -> None:
    domain = TestTrustDomain(REVIEWS)
    tls = DownstreamTls(parameters=dataclasses.replace(mesh_parameters(), alpn_protocols=("h2", "http/1.1")))
    async with http2_upstream() as upstream:
        cluster = static_cluster(upstream.endpoint, codec_type=CodecType.HTTP2)
        async with running_stack(MANAGER, cluster, tls=tls, svid=domain.svid().pem()) as stack:
            about = await curl(
                option, "--insecure", "--write-out", "%{http_version}", f"https://127.0.0.1:{stack.port}/"
            )
            assert about == f"ok{version}"


async def test_curl_that_asks_to_upgrade_is_served_in_http1() -> None:
    """h2c by Upgrade is obsolete (RFC 9113 3.1); Envoy ignores it too."""
    async with http2_hop() as hop:
        about = await curl("--http2", "--write-out", "%{http_version}", f"http://127.0.0.1:{hop.stack.port}/")
        assert about == "ok1.1"


HTTP2_HOST = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


async def test_h2load_gets_every_response(tmp_path: Path) -> None:
    """Of a sidecar in a process of its own, in front of nghttpd. Its counters agree with the client's."""
    number = 100_000
    (tmp_path / "index.html").write_bytes(b"ok")
    port = free_port()
    command = (tool("nghttpd"), "--no-tls", f"--htdocs={tmp_path}", str(port))
    manager = http_connection_manager(codec_type="HTTP2", route_config=route_configuration())
    document = changed(bootstrap(), "static_resources.listeners", [listener("l", manager)])
    cluster = {**envoy_config.static_cluster("a", port), "typed_extension_protocol_options": HTTP2_HOST}
    document = changed(document, "static_resources.clusters", [cluster])
    async with started(*command, port=port):
        with running(tmp_path, document) as sidecar:
            await asyncio.to_thread(sidecar.wait_for_state, "LIVE")
            page = await asyncio.to_thread(sidecar.ask, "/listeners")
            url = f"http://127.0.0.1:{page.body.strip().rpartition(':')[2]}/index.html"
            load = (f"--requests={number}", "--clients=4", "--max-concurrent-streams=25", url)
            output = await run(tool("h2load"), *load)
            assert f"{number} succeeded, 0 failed, 0 errored, 0 timeout" in output
            assert f"status codes: {number} 2xx, 0 3xx, 0 4xx, 0 5xx" in output
            stats = (await asyncio.to_thread(sidecar.ask, "/stats")).body.splitlines()
            counted = dict(line.split(": ") for line in stats)
    http, cluster_stats = "http.http", "cluster.a"
    for name in ("downstream_rq_total", "downstream_rq_completed", "downstream_rq_2xx"):
        assert counted[f"{http}.{name}"] == str(number)
    for name in ("upstream_rq_total", "upstream_rq_completed", "upstream_rq_2xx"):
        assert counted[f"{cluster_stats}.{name}"] == str(number)
    for name in (f"{http}.downstream_rq_active", f"{cluster_stats}.upstream_rq_active"):
        assert counted[name] == "0"
    assert counted[f"{http}.downstream_cx_http2_total"] == "4"
    assert counted[f"{http}.downstream_rq_rx_reset"] == counted["http2.tx_reset"] == "0"


async def test_a_file_of_nghttpd_arrives_whole(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    port = free_port()
    command = (tool("nghttpd"), "--no-tls", f"--htdocs={tmp_path}", "--trailer=x-check: 1", str(port))
    async with started(*command, port=port), proxy_to(at_port(port), CodecType.HTTP2) as stack:
        received = tmp_path / "received"
        url = f"http://127.0.0.1:{stack.port}/large"
        await curl("--http2-prior-knowledge", "--output", str(received), url)
        assert received.read_bytes() == LARGE
        await curl("--http1.1", "--output", str(received), url)
        assert received.read_bytes() == LARGE
        missing = await curl("--http2-prior-knowledge", "--include", f"http://127.0.0.1:{stack.port}/none")
        assert re.match(r"HTTP/2 404", missing)


async def test_nghttpx_passes_requests_to_and_from_the_proxy(tmp_path: Path) -> None:
    """It stands on both sides: in front of the proxy, and behind it."""
    behind, front = free_port(), free_port()
    async with flaky_upstream("a") as upstream:
        tail = (
            tool("nghttpx"),
            "--conf=/dev/null",
            f"--frontend=127.0.0.1,{behind};no-tls",
            f"--backend=127.0.0.1,{upstream.port};;proto=http/1.1",
            "--workers=1",
        )
        async with started(*tail, port=behind), proxy_to(at_port(behind), CodecType.HTTP2) as stack:
            head = (
                tool("nghttpx"),
                "--conf=/dev/null",
                f"--frontend=127.0.0.1,{front};no-tls",
                f"--backend=127.0.0.1,{stack.port};;proto=h2",
                "--workers=1",
            )
            async with started(*head, port=front):
                assert await curl("--http2-prior-knowledge", f"http://127.0.0.1:{front}/") == "a"
                assert await curl("--http1.1", f"http://127.0.0.1:{front}/") == "a"
                output = await run(
                    tool("h2load"),
                    "--requests=500",
                    "--clients=2",
                    "--max-concurrent-streams=10",
                    f"http://127.0.0.1:{front}/",
                )
                assert "500 succeeded, 0 failed" in output
