"""State-of-the-world xDS: every request contains the whole subscription, and every response with listeners or
clusters the whole state. Envoy and gRPC use this variant by default."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from controlplane.xds.acknowledgements import Rejection
from controlplane.xds.resource import WHOLE_STATE_TYPES, Resource, in_batches, response_version
from controlplane.xds.stream import MAX_RESPONSE_BYTES, Stream
from controlplane.xds.watch import Watch


class SotwStream(Stream[DiscoveryRequest, DiscoveryResponse]):
    variant: ClassVar[str] = "sotw"

    @staticmethod
    def returns(first: DiscoveryRequest) -> bool:
        return bool(first.version_info)

    def receive(self, request: DiscoveryRequest, now: float) -> Rejection | None:
        watch = self.watches.get(request.type_url)
        if watch is None:
            # A nonce here is from an earlier stream: this stream has sent nothing of the type yet.
            watch = Watch(type_url=request.type_url)
            watch.replace_names(request.resource_names)
            self.watches[request.type_url] = watch
            return None
        nonce = request.response_nonce
        if not nonce:
            # The proxy sent this before it received the first response: it only changes the subscription.
            watch.replace_names(request.resource_names)
            return None
        reason = request.error_detail.message if request.HasField("error_detail") else None
        rejection = self._settle(watch, nonce, reason, now)
        # The subscription of a stale request can be ignored: the answer to the last response repeats it.
        if watch.acks.is_last(nonce):
            watch.replace_names(request.resource_names)
        return rejection

    def _replaces(self, type_url: str) -> bool:
        return type_url in WHOLE_STATE_TYPES

    def _can_remove(self, type_url: str) -> bool:
        return type_url in WHOLE_STATE_TYPES

    def _encode(
        self, watch: Watch, changed: Collection[Resource], removed: Collection[str], now: float
    ) -> list[DiscoveryResponse]:
        if self._replaces(watch.type_url):
            return [self._response(watch, list(watch.held.values()), removed, now)]
        return [self._response(watch, batch, (), now) for batch in in_batches(changed, MAX_RESPONSE_BYTES)]

    def _response(
        self, watch: Watch, resources: list[Resource], removed: Collection[str], now: float
    ) -> DiscoveryResponse:
        version = response_version(resources)
        names = {*(resource.name for resource in resources), *removed}
        return DiscoveryResponse(
            version_info=version,
            type_url=watch.type_url,
            nonce=self._record(watch, version, names, now),
            resources=[resource.packed for resource in resources],
        )
