"""The xDS server of a small mesh over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import trustme
from prometheus_client import CollectorRegistry

from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds.server import SERVER_OPTIONS, Authenticate, XdsServer
from controlplane.xds.status import ProxyStatus
from tests.support.xds_world import FULL, FakeGenerator, cluster, endpoints, listener, route

REVIEWS = "outbound|9080||reviews"
RATINGS = "outbound|9080||ratings"


@dataclass
class Mesh:
    generator: FakeGenerator
    server: XdsServer
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    target: str
    generation: int = 0

    def publish(self, change: SnapshotChange = FULL) -> None:
        self.generation += 1
        self.server.set_snapshot(MeshSnapshot(generation=self.generation), change)

    def endpoints_changed(self, *hostnames: str) -> None:
        self.publish(SnapshotChange(full=False, endpoints=frozenset(hostnames)))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def narrow_channel(self) -> grpc.aio.Channel:
        """A channel with small transport buffers, so that unread responses stay in the server."""
        return grpc.aio.insecure_channel(self.target, options=[("grpc.http2.bdp_probe", 0)])

    @property
    def status(self) -> ProxyStatus:
        [only] = self.server.proxies()
        return only


@asynccontextmanager
async def serving(
    generator: FakeGenerator,
    *,
    registry: CollectorRegistry | None = None,
    authenticate: Authenticate | None = None,
    tls: trustme.CA | None = None,
    knows_all: bool = False,
    workload_patience_s: float = 60.0,
) -> AsyncIterator[tuple[XdsServer, grpc.aio.Channel, str]]:
    """A server on a separate port, a channel to it, and its address."""
    xds = XdsServer(
        generator,
        registry=registry or CollectorRegistry(),
        authenticate=authenticate,
        knows_all=knows_all,
        workload_patience_s=workload_patience_s,
        write_timeout_s=0.5,
    )
    server = grpc.aio.server(options=SERVER_OPTIONS)
    xds.add_to(server)
    if tls is None:
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        channel = grpc.aio.insecure_channel(target)
    else:
        leaf = tls.issue_cert("127.0.0.1")
        pair = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        target = f"127.0.0.1:{port}"
        roots = grpc.ssl_channel_credentials(tls.cert_pem.bytes())
        channel = grpc.aio.secure_channel(target, roots)
    await server.start()
    try:
        async with channel:
            yield xds, channel, target
    finally:
        await xds.close()
        await server.stop(None)


@asynccontextmanager
async def served_mesh() -> AsyncIterator[Mesh]:
    """Two clusters with their endpoints, a listener and a route."""
    generator, registry = FakeGenerator(), CollectorRegistry()
    generator.put(
        cluster(REVIEWS), cluster(RATINGS), endpoints(REVIEWS), endpoints(RATINGS), listener("l"), route("r")
    )
    async with serving(generator, registry=registry) as (xds, channel, target):
        mesh = Mesh(generator, xds, registry, channel, target)
        mesh.publish()
        yield mesh


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def stream_tasks() -> list[str]:
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith(("xds-read", "xds-write"))]
