"""A hand-written ADS client, of both variants, over a real socket. It answers nothing by itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import Node
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)

from protos import type_urls
from tests.support.xds_exchange import outline

DEADLINE_S = 10.0


def node_of(name: str, namespace: str = "default", **metadata: Any) -> Node:
    node = Node(id=f"sidecar~10.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local")
    node.metadata.update(metadata)
    return node


class AdsClient:
    """Use as a context manager: leaving it cancels the stream."""

    def __init__(self, channel: grpc.aio.Channel, node: Node, *, metadata: tuple[Any, ...] = ()) -> None:
        self.node = node
        self.call: Any = self._open(ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel), metadata)
        self._node_sent = False

    def _open(self, stub: Any, metadata: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()

    async def write(self, request: Any) -> None:
        """The node is in the first request only, as the protocol has it. A stream that the server has already
        ended loses the request: `receive` and `failure` tell how it ended."""
        if not self._node_sent:
            request.node.CopyFrom(self.node)
            self._node_sent = True
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.call.write(request)

    async def receive(self, type_url: str | None = None) -> Any:
        """The next response, which must be of this type."""
        response = await asyncio.wait_for(self.call.read(), DEADLINE_S)
        assert response is not grpc.aio.EOF, f"{await self.call.code()}: {await self.call.details()}"
        if type_url is not None:
            assert response.type_url == type_url, outline([response])
        return response

    async def failure(self) -> tuple[grpc.StatusCode, str]:
        """How the server ended the stream."""
        code = await asyncio.wait_for(self.call.code(), DEADLINE_S)
        return code, await self.call.details()

    async def acknowledge(self, response: Any, *, error: str = "") -> None:
        raise NotImplementedError

    async def accept(self, type_url: str) -> Any:
        response = await self.receive(type_url)
        await self.acknowledge(response)
        return response


class SotwClient(AdsClient):
    def __init__(self, channel: grpc.aio.Channel, node: Node, *, metadata: tuple[Any, ...] = ()) -> None:
        super().__init__(channel, node, metadata=metadata)
        self.names: dict[str, tuple[str, ...]] = {}

    def _open(self, stub: Any, metadata: tuple[Any, ...]) -> Any:
        return stub.StreamAggregatedResources(metadata=metadata)

    async def subscribe(self, type_url: str, *names: str, nonce: str = "") -> None:
        self.names[type_url] = names
        await self.write(DiscoveryRequest(type_url=type_url, resource_names=names, response_nonce=nonce))

    async def acknowledge(self, response: DiscoveryResponse, *, error: str = "") -> None:
        request = DiscoveryRequest(
            type_url=response.type_url,
            resource_names=self.names[response.type_url],
            response_nonce=response.nonce,
            version_info="" if error else response.version_info,
        )
        if error:
            request.error_detail.message = error
        await self.write(request)


class DeltaClient(AdsClient):
    def _open(self, stub: Any, metadata: tuple[Any, ...]) -> Any:
        return stub.DeltaAggregatedResources(metadata=metadata)

    async def subscribe(self, type_url: str, *names: str, has: dict[str, str] | None = None) -> None:
        await self.write(
            DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names, initial_resource_versions=has or {}
            )
        )

    async def unsubscribe(self, type_url: str, *names: str) -> None:
        await self.write(DeltaDiscoveryRequest(type_url=type_url, resource_names_unsubscribe=names))

    async def acknowledge(self, response: DeltaDiscoveryResponse, *, error: str = "") -> None:
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
        await self.write(request)

    async def follow(self, clusters: int) -> None:
        """Subscribes to everything, as a sidecar does, and acknowledges it."""
        await self.subscribe(type_urls.CLUSTER)
        names: list[str] = []
        while len(names) < clusters:
            response = await self.accept(type_urls.CLUSTER)
            names += [resource.name for resource in response.resources]
        await self.subscribe(type_urls.ENDPOINT, *names)
        seen = 0
        while seen < len(names):
            response = await self.accept(type_urls.ENDPOINT)
            seen += len(response.resources) + len(response.removed_resources)
