"""Proxies that follow a mesh's pushes without a socket: each holds what it was sent, as an Envoy does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest
from google.protobuf.message import Message
from prometheus_client import CollectorRegistry

from controlplane.model.proxy import Proxy
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.networking.build_cache import BuildCache
from controlplane.xds.connections import Connection, Connections
from controlplane.xds.delta import DeltaStream
from controlplane.xds.generator import Generator, MeshGenerator
from controlplane.xds.identification import Claims, Identified
from controlplane.xds.metrics import XdsMetrics
from controlplane.xds.pusher import Pusher
from protos import type_urls
from tests.support.xds_world import MESSAGE_TYPES

Held = dict[str, dict[str, Message]]  # by type, then by name


class FollowingProxy:
    """Subscribes to all clusters and listeners, to the endpoints and routes that they name, and to the name
    table."""

    def __init__(self, proxy: Proxy, connection: Connection, pusher: Pusher) -> None:
        self.proxy = proxy
        self.connection = connection
        self.held: Held = {type_url: {} for type_url in type_urls.PUSH_ORDER}
        self.received = 0
        self._pusher = pusher
        self._subscribed: dict[str, set[str]] = {type_urls.ENDPOINT: set(), type_urls.ROUTE: set()}
        for type_url in (type_urls.CLUSTER, type_urls.LISTENER, type_urls.NAME_TABLE):
            self._say(DeltaDiscoveryRequest(type_url=type_url))

    async def read(self) -> None:
        """Takes and acknowledges what there is."""
        while not self.connection.drained:
            response: Any = await self.connection.next_response()
            self.connection.written()
            if self.connection.drained:
                self._pusher.drained(self.connection)
            self._take(response)

    def _take(self, response: Any) -> None:
        self.received += 1
        held = self.held[response.type_url]
        for each in response.resources:
            held[each.name] = MESSAGE_TYPES[response.type_url].FromString(each.resource.value)
        for name in response.removed_resources:
            held.pop(name, None)
        self._say(DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce))
        if response.type_url == type_urls.CLUSTER:
            self._subscribe(type_urls.ENDPOINT, endpoint_names(held.values()))
        if response.type_url == type_urls.LISTENER:
            self._subscribe(type_urls.ROUTE, route_names(held.values()))

    def _subscribe(self, type_url: str, names: set[str]) -> None:
        before = self._subscribed[type_url]
        if names == before and type_url in self.connection.stream.watches:
            return
        self._subscribed[type_url] = names
        for name in before - names:
            self.held[type_url].pop(name, None)
        self._say(
            DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=sorted(names - before),
                resource_names_unsubscribe=sorted(before - names),
            )
        )

    def _say(self, request: DeltaDiscoveryRequest) -> None:
        self.connection.stream.receive(request, 0.0)
        self._pusher.look_after(self.connection)


class FollowingProxies:
    """Use it inside a running loop, and `close` it."""

    def __init__(self, generator: Generator | None = None) -> None:
        self.cache = BuildCache()
        self.connections = Connections()
        self.pusher = Pusher(
            generator or MeshGenerator(self.cache),
            self.connections,
            XdsMetrics(CollectorRegistry()),
            clock=lambda: 0.0,
        )
        self.pusher.start()
        self.proxies: list[FollowingProxy] = []

    def connect(self, proxy: Proxy) -> FollowingProxy:
        connection = Connection(
            connection_id=self.connections.next_id(proxy),
            claims=Claims(proxy=proxy, caller=None, remote=False),
            identified=Identified(proxy=proxy, workload=None),
            version="",
            peer="",
            stream=DeltaStream("d"),
            now=0.0,
        )
        self.connections.add(connection)
        following = FollowingProxy(proxy, connection, self.pusher)
        self.proxies.append(following)
        return following

    async def take(self, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        """Returns once every proxy has acknowledged all that the change means to it."""
        self.pusher.set_snapshot(snapshot, change)
        async with asyncio.timeout(60):
            while not self._at_rest(snapshot):
                await asyncio.sleep(0)
                for each in self.proxies:
                    await each.read()

    def _at_rest(self, snapshot: MeshSnapshot) -> bool:
        pushed = all(each.generation == snapshot.generation for each in self.pusher.progress())
        return pushed and all(
            each.connection.drained and each.connection.stream.acknowledged for each in self.proxies
        )

    async def close(self) -> None:
        await self.pusher.close()


def endpoint_names(clusters: Iterable[Message]) -> set[str]:
    """The load assignments that these clusters follow."""
    return {
        each.eds_cluster_config.service_name or each.name
        for each in clusters
        if isinstance(each, Cluster) and each.type == Cluster.EDS
    }


def route_names(listeners: Iterable[Message]) -> set[str]:
    """The route configurations that these listeners follow."""
    found = set()
    for listener in listeners:
        assert isinstance(listener, Listener)
        filters = [each.typed_config for chain in listener.filter_chains for each in chain.filters]
        for packed in (*filters, listener.api_listener.api_listener):  # gRPC's client has the latter
            manager = HttpConnectionManager()
            if packed.Unpack(manager) and manager.HasField("rds"):
                found.add(manager.rds.route_config_name)
    return found
