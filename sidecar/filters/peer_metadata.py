"""Istio's ``istio.metadata_exchange``: two proxies tell each other their workloads, for metrics and logs.

A workload is believed only from a peer whose certificate is of the same namespace; without TLS nothing is
known of a peer, and it could name any workload.
"""

from __future__ import annotations

from typing import Final

from protos.spiffe import SpiffeId
from sidecar.config.endpoint import WorkloadMetadata
from sidecar.config.http_filters import PeerMetadataConfig, PeerMethod
from sidecar.filters.chain import FilterContext, FilterKind
from sidecar.filters.workload_headers import (
    LONGEST_BYTES,
    decode_baggage,
    decode_metadata,
    encode_baggage,
    encode_metadata,
)
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response, Service
from sidecar.observability.stream_info import StreamInfo

_METADATA: Final = b"x-envoy-peer-metadata"
_ID: Final = b"x-envoy-peer-metadata-id"
_BAGGAGE: Final = b"baggage"
_HEADERS: Final = PeerMethod.ISTIO_HEADERS
_OUTSIDE: Final = "PassthroughCluster"
# Envoy's max_peer_cache_size.
_MOST_PEERS: Final = 500


class PeerMetadataFilter:
    def __init__(self, config: PeerMetadataConfig, context: FilterContext) -> None:
        self._config = config
        local = context.local_workload
        self._id = context.node_id.encode()
        self._metadata = encode_metadata(local)
        self._baggage = encode_baggage(local)
        self._known: dict[bytes, WorkloadMetadata | None] = {}

    async def __call__(self, request: Request, proceed: Service) -> Response:
        config, info, headers = self._config, request.info, request.headers
        asks_id = get_header(headers, _ID) is not None
        asks = get_header(headers, _METADATA) is not None
        if config.downstream_discovery:
            info.peer_workload = self._discover(config.downstream_discovery, headers, info.connection.peer_id)
            if _HEADERS in config.downstream_discovery:
                headers = request.headers = _without(headers)
        propagation = config.upstream_propagation
        if propagation and not (config.skip_external_clusters and _is_outside(info)):
            request.headers = self._with_own(propagation, headers, with_id=True, with_metadata=True)
        response = await proceed(request)
        if config.upstream_discovery and info.host_workload is None:
            info.host_workload = self._discover(
                config.upstream_discovery, response.headers, info.upstream_peer_id
            )
        if _HEADERS in config.upstream_discovery:
            response.headers = _without(response.headers)
        if config.downstream_propagation:
            response.headers = self._with_own(
                config.downstream_propagation, response.headers, with_id=asks_id, with_metadata=asks
            )
        return response

    def _discover(
        self, methods: tuple[PeerMethod, ...], headers: Headers, peer_id: str
    ) -> WorkloadMetadata | None:
        """The workload that the peer names, by the first method that it uses."""
        if not peer_id:
            return None
        for method in methods:
            value = get_header(headers, _METADATA if method is _HEADERS else _BAGGAGE)
            workload = self._workload(method, value) if value else None
            if workload is not None:
                return workload if _namespace(peer_id) == workload.namespace else None
        return None

    def _workload(self, method: PeerMethod, value: bytes) -> WorkloadMetadata | None:
        """The values of peers repeat."""
        if len(value) > LONGEST_BYTES:
            return None
        known = self._known
        if value not in known:
            if len(known) >= _MOST_PEERS:
                known.clear()
            known[value] = decode_metadata(value) if method is _HEADERS else decode_baggage(value)
        return known[value]

    def _with_own(
        self, methods: tuple[PeerMethod, ...], headers: Headers, *, with_id: bool, with_metadata: bool
    ) -> Headers:
        """The headers with those that name this workload."""
        own: Headers = []
        if _HEADERS in methods:
            if with_id:
                own.append((_ID, self._id))
            if with_metadata:
                own.append((_METADATA, self._metadata))
        if PeerMethod.BAGGAGE in methods:
            own.append((_BAGGAGE, self._baggage))
        names = [name for name, _ in own]
        return [field for field in headers if field[0] not in names] + own

    def close(self) -> None:
        pass


def _without(headers: Headers) -> Headers:
    return [field for field in headers if field[0] != _METADATA and field[0] != _ID]


def _is_outside(info: StreamInfo) -> bool:
    """Whether the request goes to a host that is not of the mesh."""
    return info.cluster == _OUTSIDE or (info.service is not None and info.service.external)


def _namespace(peer_id: str) -> str:
    try:
        return SpiffeId.parse(peer_id).namespace
    except ValueError:
        return ""


KIND = FilterKind(config=PeerMetadataConfig, make=PeerMetadataFilter)
