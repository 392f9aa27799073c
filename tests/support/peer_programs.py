"""Programs that are a client or a server of HTTP on the other side of the sidecar.

A server prints its port, and finishes active requests on SIGTERM. A client prints a line `passed: <check>`
for each of its checks. A load prints `started` after its first requests, and fails with one failed request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecar.config.cluster import CircuitBreakers
from sidecar.config.codec_type import CodecType
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import RetryPolicy
from sidecar.config.tls import (
    DataSource,
    DownstreamTls,
    TlsCertificate,
    TlsParameters,
    UpstreamTls,
    Validation,
)
from tests.support.certificates import TestAuthority
from tests.support.clusters import at_port, static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, running_stack

DEADLINE_S = 60.0
_ISTIOS_DEFAULT = RetryPolicy(
    retry_on=frozenset(("connect-failure", "refused-stream")),
    num_retries=2,
    previous_hosts=True,
    host_selection_max_attempts=5,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate for 127.0.0.1, which is its own authority, and its key: PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def made_in(cls, folder: Path) -> Credentials:
        now_s = time.time()
        authority = TestAuthority("peers", not_before=now_s - 60, not_after=now_s + 3600)
        return cls(*authority.write(folder, "peers"))

    def of_the_listener(self) -> DownstreamTls:
        certificate = TlsCertificate(
            certificate_chain=DataSource(filename=str(self.certificate)),
            private_key=DataSource(filename=str(self.key)),
        )
        return DownstreamTls(
            parameters=TlsParameters(certificate=certificate, alpn_protocols=("h2", "http/1.1"))
        )

    def of_the_hosts(self) -> UpstreamTls:
        """The cluster offers the protocols of its `codec_type` by ALPN."""
        validation = Validation(trusted_ca=DataSource(filename=str(self.certificate)))
        return UpstreamTls(parameters=TlsParameters(validation=validation))


@asynccontextmanager
async def started(*command: str | Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program, with `environment` alone; in the end it gets SIGTERM and has `DEADLINE_S` to exit."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), DEADLINE_S)
        except TimeoutError:
            process.kill()
            raise


async def first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)).decode().strip()


@asynccontextmanager
async def server(*command: str | Path) -> AsyncIterator[int]:
    """Serves on the port that it yields."""
    async with started(*command) as process:
        yield int(await first_line(process))


async def passed_checks(*command: str | Path, **environment: str) -> list[str]:
    """The checks of a client, all of which must pass."""
    async with started(*command, **environment) as client:
        output, _ = await asyncio.wait_for(client.communicate(), DEADLINE_S)
    assert client.returncode == 0, output.decode()
    return [line.removeprefix("passed: ") for line in output.decode().splitlines()]


@asynccontextmanager
async def proxy_between(
    port: int, codec_type: CodecType, *, listener: DownstreamTls | None, hosts: UpstreamTls | None
) -> AsyncIterator[str]:
    """The URL of a sidecar in front of the server at `port`. None: plaintext."""
    cluster = static_cluster(at_port(port), codec_type=codec_type, tls=hosts)
    async with running_stack(_manager(), cluster, tls=listener) as stack:
        yield f"{'https' if listener else 'http'}://127.0.0.1:{stack.port}"
        await stack.settle()


async def no_request_fails_when_a_server_stops(
    server_command: tuple[str | Path, ...], load_command: tuple[str | Path, ...]
) -> None:
    """Two servers of plaintext HTTP/2 behind the sidecar, one of which stops under load. The load gets the
    URL as its last argument."""
    async with server(*server_command) as staying, AsyncExitStack() as stopping:
        leaving = await stopping.enter_async_context(server(*server_command))
        cluster = static_cluster(
            at_port(staying),
            at_port(leaving),
            codec_type=CodecType.HTTP2,
            circuit_breakers=CircuitBreakers(max_retries=1000),
        )
        async with (
            running_stack(_manager(_ISTIOS_DEFAULT), cluster) as stack,
            started(*load_command, f"http://127.0.0.1:{stack.port}") as load,
        ):
            assert await first_line(load) == "started"
            await stopping.aclose()
            assert load.returncode is None, "the server stops under load"
            output, _ = await asyncio.wait_for(load.communicate(), DEADLINE_S)
    assert load.returncode == 0, output.decode()


def _manager(retry_policy: RetryPolicy | None = None) -> HttpConnectionManager:
    routes = configuration(virtual_host(route(prefix(), to("up", retry_policy=retry_policy))))
    return HttpConnectionManager(stat_prefix=NAME, http_filters=(ROUTER,), route_config=routes)
