"""An ADS server whose every response the test decides, and which records every request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc
import grpc.aio
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.service.discovery.v3 import ads_pb2_grpc
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryResponse,
    DiscoveryResponse,
    Resource,
)
from google.protobuf import any_pb2, json_format
from google.protobuf.message import Message

import sidecar.xds.decode  # noqa: F401 - registers the messages that may be in an Any
from protos import type_urls
from protos.nds_pb2 import NameTable

MESSAGES: dict[str, Any] = {
    type_urls.CLUSTER: Cluster,
    type_urls.ENDPOINT: ClusterLoadAssignment,
    type_urls.LISTENER: Listener,
    type_urls.ROUTE: RouteConfiguration,
    type_urls.NAME_TABLE: NameTable,
}
TIMEOUT_S = 10.0


def packed(type_url: str, document: Mapping[str, Any]) -> any_pb2.Any:
    container = any_pb2.Any()
    container.Pack(json_format.ParseDict(dict(document), MESSAGES[type_url]()))
    return container


def name_of(document: Mapping[str, Any]) -> str:
    if "table" in document:
        return type_urls.NAME_TABLE_NAME
    return str(document.get("name") or document["cluster_name"])


class Stream:
    """One client's stream, as the test sees it. Requests are protobuf messages."""

    def __init__(self, metadata: Sequence[tuple[str, Any]]) -> None:
        self.metadata = dict(metadata)
        self.received: list[Any] = []
        self.error = grpc.StatusCode.OK
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._responses: asyncio.Queue[Message | None] = asyncio.Queue()
        self._nonces = count(1)

    async def request(self, type_url: str, *, nonce: str | None = None) -> Any:
        """The next request of a type (with an answer to ``nonce``); others before it are passed over."""
        while True:
            request = await asyncio.wait_for(self._requests.get(), TIMEOUT_S)
            if request.type_url == type_url and nonce in {None, request.response_nonce}:
                return request

    async def send_delta(
        self,
        type_url: str,
        *documents: Mapping[str, Any] | Resource,
        removed: Sequence[str] = (),
        version: str = "1",
    ) -> Any:
        """Sends, and gives the client's answer."""
        nonce = self.post_delta(type_url, *documents, removed=removed, version=version)
        return await self.request(type_url, nonce=nonce)

    def post_delta(
        self,
        type_url: str,
        *documents: Mapping[str, Any] | Resource,
        removed: Sequence[str] = (),
        version: str = "1",
    ) -> str:
        """Sends, and gives the nonce."""
        resources = [
            document
            if isinstance(document, Resource)
            else Resource(name=name_of(document), version=version, resource=packed(type_url, document))
            for document in documents
        ]
        nonce = f"n{next(self._nonces)}"
        response = DeltaDiscoveryResponse(
            type_url=type_url,
            nonce=nonce,
            system_version_info=version,
            resources=resources,
            removed_resources=removed,
        )
        self._responses.put_nowait(response)
        return nonce

    async def send_sotw(self, type_url: str, *documents: Mapping[str, Any], version: str = "1") -> Any:
        nonce = f"n{next(self._nonces)}"
        resources = [packed(type_url, document) for document in documents]
        self._responses.put_nowait(
            DiscoveryResponse(type_url=type_url, nonce=nonce, version_info=version, resources=resources)
        )
        return await self.request(type_url, nonce=nonce)

    def close(self, *, error: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.error = error
        self._responses.put_nowait(None)

    async def serve(self, requests: AsyncIterator[Any]) -> AsyncIterator[Message]:
        reader = asyncio.create_task(self._read(requests), name="ads-test-reader")
        try:
            while (response := await self._responses.get()) is not None:
                yield response
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[Any]) -> None:
        async for request in requests:
            self.received.append(request)
            self._requests.put_nowait(request)


class AdsServer(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def __init__(self, server: grpc.aio.Server) -> None:
        self.port = 0
        self._server = server
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()

    async def stop(self, *, grace_s: float) -> None:
        """Sends GOAWAY, and returns when all streams have ended."""
        await self._server.stop(grace_s)

    async def stream(self) -> Stream:
        """The next stream that a client opens."""
        return await asyncio.wait_for(self._streams.get(), TIMEOUT_S)

    async def DeltaAggregatedResources(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Message]:
        stream = Stream(context.invocation_metadata())
        self._streams.put_nowait(stream)
        async for response in stream.serve(request_iterator):
            yield response
        if stream.error is not grpc.StatusCode.OK:
            await context.abort(stream.error, "the test's error")

    StreamAggregatedResources = DeltaAggregatedResources


@asynccontextmanager
async def ads_server(
    *, port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[AdsServer]:
    """On any port of 127.0.0.1, or on a given one to stand in for a server that was restarted."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service = AdsServer(server)
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(service, server)
    address = f"127.0.0.1:{port}"
    service.port = (
        server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    )
    await server.start()
    try:
        yield service
    finally:
        await server.stop(0)
