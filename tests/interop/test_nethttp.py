"""Go's net/http as the client and as the server of the sidecar, over plaintext HTTP/2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from sidecar.config.cluster import CircuitBreakers
from sidecar.config.codec_type import CodecType
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import RetryPolicy
from tests.support.clusters import at_port, static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.http2_proxy import proxy_to
from tests.support.nethttp import NETHTTP
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, running_stack

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def nethttp() -> Path:
    if not NETHTTP.path.is_file():
        pytest.skip("nethttp is not built: `make cluster-binary` builds it")
    return NETHTTP.path


@asynccontextmanager
async def server(binary: Path) -> AsyncIterator[int]:
    """Serves on the port that it yields; in the end it finishes active requests."""
    process = await asyncio.create_subprocess_exec(binary, "server", stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE_S)


async def test_go_client_and_server_understand_the_sidecar(nethttp: Path) -> None:
    async with server(nethttp) as port, proxy_to(at_port(port), CodecType.HTTP2) as stack:
        client = await asyncio.create_subprocess_exec(
            nethttp, "client", f"http://127.0.0.1:{stack.port}", stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await asyncio.wait_for(client.communicate(), DEADLINE_S)
    assert client.returncode == 0, printed.decode()
    assert printed.decode().count("passed: ") == 5


async def test_no_request_fails_when_a_go_server_stops_gracefully(nethttp: Path) -> None:
    policy = RetryPolicy(  # Istio's default
        retry_on=frozenset(("connect-failure", "refused-stream")),
        num_retries=2,
        previous_hosts=True,
        host_selection_max_attempts=5,
    )
    routes = configuration(virtual_host(route(prefix(), to("up", retry_policy=policy))))
    manager = HttpConnectionManager(stat_prefix=NAME, http_filters=(ROUTER,), route_config=routes)
    async with server(nethttp) as staying, AsyncExitStack() as stopping:
        leaving = await stopping.enter_async_context(server(nethttp))
        cluster = static_cluster(
            at_port(staying),
            at_port(leaving),
            codec_type=CodecType.HTTP2,
            circuit_breakers=CircuitBreakers(max_retries=1000),
        )
        async with running_stack(manager, cluster) as stack:
            client = await asyncio.create_subprocess_exec(
                nethttp, "load", f"http://127.0.0.1:{stack.port}", stdout=asyncio.subprocess.PIPE
            )
            assert client.stdout is not None
            started = await asyncio.wait_for(client.stdout.readline(), DEADLINE_S)
            assert started == b"started\n"
            await stopping.aclose()
            assert client.returncode is None, "the server stops under load"
            printed, _ = await asyncio.wait_for(client.communicate(), DEADLINE_S)
    assert client.returncode == 0, printed.decode()
