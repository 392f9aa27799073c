"""Clusters that need no configuration file: real ones, over a loop and a random generator of the test's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from sidecar.config.cluster import ClusterConfig, Discovery
from sidecar.config.endpoint import Endpoint, LoadAssignment, SocketAddress
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import UpstreamTls
from sidecar.http.codec import client_codec
from sidecar.observability.stats import ClusterStats, Stats
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.connection import ConnectionFactory
from sidecar.upstream.environment import UpstreamEnvironment
from tests.support.virtual_time import VirtualTime


class NoTls:
    """A `ClientTls` for clusters in plaintext."""

    def client(self, tls: UpstreamTls) -> ssl.SSLContext:
        raise AssertionError("nobody speaks TLS here")

    def verify_server(self, tls: UpstreamTls, peer: ssl.SSLObject) -> str:
        raise AssertionError("nobody speaks TLS here")


def assignment(name: str, *endpoints: Endpoint) -> LoadAssignment:
    return LoadAssignment(cluster_name=name, endpoints=endpoints)


def at_port(port: int, **options: Any) -> Endpoint:
    return Endpoint(address=SocketAddress("127.0.0.1", port), **options)


def static_cluster(*endpoints: Endpoint, name: str = "up", **options: Any) -> ClusterConfig:
    return ClusterConfig(
        name=name, discovery=Discovery.STATIC, load_assignment=assignment(name, *endpoints), **options
    )


def dns_cluster(
    *hosts: str, name: str = "up", kind: Discovery = Discovery.STRICT_DNS, **options: Any
) -> ClusterConfig:
    endpoints = (Endpoint(address=SocketAddress(host, 80)) for host in hosts)
    return ClusterConfig(name=name, discovery=kind, load_assignment=assignment(name, *endpoints), **options)


def snapshot(*clusters: ClusterConfig, **endpoints: LoadAssignment) -> Snapshot:
    return Snapshot(clusters={cluster.name: cluster for cluster in clusters}, endpoints=endpoints)


def idle_cluster(config: ClusterConfig) -> Cluster:
    """A cluster with the hosts of its configuration, to look at: nothing connects to them, and there need be
    no event loop."""
    env = UpstreamEnvironment(
        loop=asyncio.AbstractEventLoop(),
        timers=Timers(VirtualTime()),
        tls=NoTls(),
        connection_factory=client_codec,
        resolve=_resolve_nothing,
    )
    cluster = Cluster(config, ClusterStats(), env)
    if config.load_assignment is not None:
        cluster.set_endpoints(config.load_assignment)
    return cluster


async def _resolve_nothing(*question: object) -> Any:
    raise AssertionError(f"nobody looks up names here: {question}")


@asynccontextmanager
async def cluster_manager(
    *clusters: ClusterConfig,
    connection_factory: ConnectionFactory = client_codec,
    **options: Any,
) -> AsyncIterator[ClusterManager]:
    loop = options.pop("loop", None) or asyncio.get_running_loop()
    timers = options.pop("timers", None) or Timers(asyncio.get_running_loop())
    options.setdefault("tls", NoTls())
    options.setdefault("stats", Stats())
    manager = ClusterManager(
        http_connection_factory=connection_factory, timers=timers, loop=loop, rng=Random(1), **options
    )
    manager.update(snapshot(*clusters))
    try:
        yield manager
    finally:
        await manager.close()
        await asyncio.sleep(0)  # the transports close
        timers.close()
