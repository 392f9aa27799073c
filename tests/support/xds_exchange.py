"""Drives one `Stream` as the server would, without a server: what the mesh has, what the proxy says, what it
is sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from google.protobuf.message import Message

from controlplane.xds.acknowledgements import Rejection
from controlplane.xds.cache import ResourceCache
from controlplane.xds.delta import DeltaStream
from controlplane.xds.resource import Resource
from controlplane.xds.sotw import SotwStream
from controlplane.xds.stream import Stream
from controlplane.xds.watch import Demand
from protos import type_urls
from tests.support.xds_world import MESSAGE_TYPES, FakeGenerator, name_of


class Exchange:
    def __init__(self, stream: Stream[Any, Any]) -> None:
        self.mesh = FakeGenerator()
        self.stream = stream
        self.now = 100.0
        self.sent: list[Any] = []
        self._cache = ResourceCache()

    def push(self) -> list[Any]:
        """One push, as the pusher does it. Returns the responses, in their order."""
        responses: list[Any] = []
        for type_url in type_urls.PUSH_ORDER:
            demand = self.stream.demand(type_url, self.now)
            if demand is not None:
                responses += self.stream.respond(demand, self.build(demand), self.now)
        responses += self.stream.retire(self.now)
        self.sent += responses
        return responses

    def build(self, demand: Demand) -> dict[str, Resource]:
        known = self.mesh.resources[demand.type_url]
        names = known if demand.wildcard else [name for name in known if name in demand.names]
        return {name: self._cache.resource(demand.type_url, name, known[name]) for name in names}

    def change(self, *messages: Message) -> list[Any]:
        self.mesh.put(*messages)
        self.stream.mesh_changed()
        return self.push()

    def remove(self, type_url: str, *names: str) -> list[Any]:
        for name in names:
            self.mesh.remove(type_url, name)
        self.stream.mesh_changed()
        return self.push()

    def acknowledge(self, response: Any, *, error: str = "") -> Rejection | None:
        raise NotImplementedError

    def settle(self) -> list[Any]:
        """Acknowledges everything, until there is nothing more to send."""
        everything = self.push()
        pending = list(self.sent)
        self.sent.clear()
        while pending:
            for response in pending:
                self.now += 0.001
                self.acknowledge(response)
            pending = self.push()
            everything += pending
        self.sent.clear()
        return everything


class SotwExchange(Exchange):
    def __init__(self) -> None:
        super().__init__(SotwStream("s"))
        self.names: dict[str, list[str]] = {}

    def say(self, type_url: str, *names: str, nonce: str = "") -> None:
        self.names[type_url] = list(names)
        self.stream.receive(
            DiscoveryRequest(type_url=type_url, resource_names=names, response_nonce=nonce), self.now
        )

    def subscribe(self, type_url: str, *names: str, nonce: str = "") -> list[DiscoveryResponse]:
        self.say(type_url, *names, nonce=nonce)
        return self.push()

    def acknowledge(self, response: DiscoveryResponse, *, error: str = "") -> Rejection | None:
        request = DiscoveryRequest(
            type_url=response.type_url,
            resource_names=self.names[response.type_url],
            response_nonce=response.nonce,
            version_info="" if error else response.version_info,
        )
        if error:
            request.error_detail.message = error
        return self.stream.receive(request, self.now)


class DeltaExchange(Exchange):
    def __init__(self) -> None:
        super().__init__(DeltaStream("d"))

    def subscribe(
        self, type_url: str, *names: str, has: dict[str, str] | None = None
    ) -> list[DeltaDiscoveryResponse]:
        self.stream.receive(
            DeltaDiscoveryRequest(
                type_url=type_url, resource_names_subscribe=names, initial_resource_versions=has or {}
            ),
            self.now,
        )
        return self.push()

    def say(self, type_url: str, *, subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> None:
        self.stream.receive(
            DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=unsubscribe,
            ),
            self.now,
        )

    def unsubscribe(self, type_url: str, *names: str) -> list[DeltaDiscoveryResponse]:
        self.say(type_url, unsubscribe=names)
        return self.push()

    def acknowledge(self, response: DeltaDiscoveryResponse, *, error: str = "") -> Rejection | None:
        request = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.message = error
        return self.stream.receive(request, self.now)


def names_in(response: DiscoveryResponse | DeltaDiscoveryResponse) -> set[str]:
    if isinstance(response, DeltaDiscoveryResponse):
        return {resource.name for resource in response.resources}
    return {_name(resource.value, response.type_url) for resource in response.resources}


def outline(responses: Iterable[Any]) -> list[tuple[str, set[str]]]:
    """What was sent, briefly: ``[("cds", {"a"}), ("lds", {"-b"})]``, removals with a dash."""
    return [
        (
            type_urls.SHORT_NAMES[response.type_url],
            names_in(response) | {f"-{name}" for name in getattr(response, "removed_resources", ())},
        )
        for response in responses
    ]


def _name(body: bytes, type_url: str) -> str:
    return name_of(MESSAGE_TYPES[type_url].FromString(body))
