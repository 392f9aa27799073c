"""Delta xDS: requests and responses contain only changes. Outrigger's sidecars use this variant."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from envoy.service.discovery.v3.discovery_pb2 import Resource as DeltaResource

from controlplane.xds.acknowledgements import Rejection
from controlplane.xds.resource import Resource, in_batches, response_version
from controlplane.xds.stream import MAX_RESPONSE_BYTES, Stream
from controlplane.xds.watch import Watch
from protos import type_urls


class DeltaStream(Stream[DeltaDiscoveryRequest, DeltaDiscoveryResponse]):
    variant: ClassVar[str] = "delta"

    @staticmethod
    def returns(first: DeltaDiscoveryRequest) -> bool:
        return bool(first.initial_resource_versions)

    def receive(self, request: DeltaDiscoveryRequest, now: float) -> Rejection | None:
        watch = self.watches.get(request.type_url)
        if watch is None:
            self._begin(request)
            return None
        # Unlike in state-of-the-world xDS, subscriptions are valid with any nonce: they are never repeated.
        watch.unsubscribe(request.resource_names_unsubscribe)
        watch.subscribe(request.resource_names_subscribe)
        if not request.response_nonce:
            return None
        reason = request.error_detail.message if request.HasField("error_detail") else None
        return self._settle(watch, request.response_nonce, reason, now)

    def _begin(self, request: DeltaDiscoveryRequest) -> None:
        watch = Watch(type_url=request.type_url)
        watch.begin(request.resource_names_subscribe, request.initial_resource_versions)
        if request.type_url == type_urls.ENDPOINT:
            # The proxy has these from an earlier stream, but clusters that changed on this stream wait for
            # them.
            watch.forced |= self._warming & watch.names
        self.watches[request.type_url] = watch

    def _replaces(self, type_url: str) -> bool:
        return False

    def _can_remove(self, type_url: str) -> bool:
        return True

    def _encode(
        self, watch: Watch, changed: Collection[Resource], removed: Collection[str], now: float
    ) -> list[DeltaDiscoveryResponse]:
        first, *rest = in_batches(changed, MAX_RESPONSE_BYTES)
        return [
            self._response(watch, first, sorted(removed), now),
            *(self._response(watch, batch, [], now) for batch in rest),
        ]

    def _response(
        self, watch: Watch, resources: list[Resource], removed: list[str], now: float
    ) -> DeltaDiscoveryResponse:
        version = response_version(resources, removed)
        names = {*(resource.name for resource in resources), *removed}
        return DeltaDiscoveryResponse(
            system_version_info=version,
            type_url=watch.type_url,
            nonce=self._record(watch, version, names, now),
            resources=[
                DeltaResource(name=resource.name, version=resource.version, resource=resource.packed)
                for resource in resources
            ],
            removed_resources=removed,
        )
