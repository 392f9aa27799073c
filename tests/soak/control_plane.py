"""A small xDS server: the soak sets the resources of each node, and its streams get them by the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc.aio
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryResponse, Resource

from protos.type_urls import CLUSTER, LISTENER
from tests.support.ads_server import packed

Document = Mapping[str, Any]
_WILDCARD = (CLUSTER, LISTENER)


class ControlPlane(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """``rejections`` are the errors of all NACKs."""

    def __init__(self) -> None:
        self.port = 0
        self.rejections: list[str] = []
        self.streams: list[Stream] = []
        self._resources: dict[tuple[str, str], dict[str, Resource]] = {}
        self._versions = count(1)

    def set(self, node: str, type_url: str, name: str, document: Document | None) -> None:
        """None removes the resource."""
        resources = self.resources(node, type_url)
        if document is None:
            resources.pop(name, None)
        else:
            version = str(next(self._versions))
            resources[name] = Resource(name=name, version=version, resource=packed(type_url, document))
        for stream in self.streams:
            if stream.node == node:
                stream.push(type_url, [name])

    def resources(self, node: str, type_url: str) -> dict[str, Resource]:
        return self._resources.setdefault((node, type_url), {})

    async def settled(self) -> None:
        """Until each node has answered all that it was sent."""
        while any(stream.unanswered for stream in self.streams):
            await asyncio.sleep(0.01)

    def disconnect(self) -> None:
        """As a control plane that restarts."""
        for stream in self.streams:
            stream.responses.put_nowait(None)

    async def DeltaAggregatedResources(
        self, request_iterator: AsyncIterator[Any], context: object
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        stream = Stream(self)
        self.streams.append(stream)
        reading = asyncio.create_task(stream.read(request_iterator), name="soak xds reader")
        try:
            while (response := await stream.responses.get()) is not None:
                yield response
        finally:
            self.streams.remove(stream)
            reading.cancel()


class Stream:
    def __init__(self, control_plane: ControlPlane) -> None:
        self.node = ""
        self.responses: asyncio.Queue[DeltaDiscoveryResponse | None] = asyncio.Queue()
        self.unanswered: set[str] = set()
        self._control_plane = control_plane
        self._subscribed: dict[str, set[str]] = {}
        self._nonces = count(1)

    async def read(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            self.node = self.node or request.node.id
            self.unanswered.discard(request.response_nonce)
            if request.error_detail.message:
                self._control_plane.rejections.append(request.error_detail.message)
            names = self._subscribed.setdefault(request.type_url, set())
            names -= set(request.resource_names_unsubscribe)
            names |= set(request.resource_names_subscribe)
            if request.type_url in _WILDCARD:
                if not request.response_nonce:
                    self.push(request.type_url, list(self._known(request.type_url)))
            elif request.resource_names_subscribe:
                self.push(request.type_url, list(request.resource_names_subscribe))

    def _known(self, type_url: str) -> dict[str, Resource]:
        return self._control_plane.resources(self.node, type_url)

    def push(self, type_url: str, names: list[str]) -> None:
        """Those to which the node is subscribed."""
        if type_url not in self._subscribed:
            return
        if type_url not in _WILDCARD:
            names = [name for name in names if name in self._subscribed[type_url]]
            if not names:
                return
        known = self._known(type_url)
        nonce = str(next(self._nonces))
        self.unanswered.add(nonce)
        response = DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=nonce,
            resources=[known[name] for name in names if name in known],
            removed_resources=[name for name in names if name not in known],
        )
        self.responses.put_nowait(response)


@asynccontextmanager
async def serving() -> AsyncIterator[ControlPlane]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service = ControlPlane()
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(service, server)
    service.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)
