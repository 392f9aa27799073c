"""Istio's standard metrics, under Istio's names and labels, counted as each request or connection ends.

https://istio.io/latest/docs/reference/config/metrics/

A series is found by a tuple of strings and integers whose hashes Python caches, so that a request costs one
dictionary look-up; labels are rendered on a scrape. The labels come from configuration and from verified
identities. A client can add only the name of its workload, and only if it has proved its namespace
(`StreamInfo.peer_workload`). Unused series expire (`SeriesTable`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from protos.spiffe import SpiffeId
from sidecar.config.cluster import ServiceMetadata
from sidecar.config.endpoint import WorkloadMetadata
from sidecar.grpc_status import NO_STATUS
from sidecar.observability.series import Labels, Place, Series, SeriesTable
from sidecar.observability.stats import DURATION_BUCKETS_MS, SIZE_BUCKETS_BYTES, Histogram
from sidecar.observability.stream_info import StreamInfo

UNKNOWN = "unknown"
_NO_CALL: Final = -3  # no status of gRPC
# Istio's destination_service_name for destinations outside the mesh: by the cluster, or by the route that
# answers without one.
_CATCH_ALLS = {
    "PassthroughCluster": "PassthroughCluster",
    "InboundPassthroughCluster": "InboundPassthroughCluster",
    "BlackHoleCluster": "BlackHoleCluster",
    "block_all": "BlackHoleCluster",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalWorkload:
    """The workload of this sidecar."""

    name: str = UNKNOWN
    namespace: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    cluster: str = UNKNOWN
    principal: str = UNKNOWN

    @property
    def metadata(self) -> WorkloadMetadata:
        """For its peers: without the parts that are unknown."""
        return WorkloadMetadata(
            name=_known(self.name),
            namespace=_known(self.namespace),
            canonical_name=_known(self.app),
            canonical_revision=_known(self.version),
            cluster=_known(self.cluster),
        )


def _known(part: str) -> str:
    return "" if part == UNKNOWN else part


@dataclass(slots=True, eq=False)
class RequestSeries(Series):
    duration_ms: Histogram = field(default_factory=lambda: Histogram(DURATION_BUCKETS_MS))
    request_bytes: Histogram = field(default_factory=lambda: Histogram(SIZE_BUCKETS_BYTES))
    response_bytes: Histogram = field(default_factory=lambda: Histogram(SIZE_BUCKETS_BYTES))
    request_messages: int = 0
    response_messages: int = 0

    def __reduce__(self) -> tuple[type[RequestSeries], tuple[object, ...]]:
        histograms = (self.duration_ms, self.request_bytes, self.response_bytes)
        messages = (self.request_messages, self.response_messages)
        return RequestSeries, (self.labels, self.place, 0, -1, *histograms, *messages)

    @property
    def is_grpc(self) -> bool:
        return self.labels.get("request_protocol") == "grpc"

    @property
    def activity(self) -> int:
        return self.duration_ms.count


@dataclass(slots=True, eq=False)
class ConnectionSeries(Series):
    opened: int = 0
    closed: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def __reduce__(self) -> tuple[type[ConnectionSeries], tuple[object, ...]]:
        counts = (self.opened, self.closed, self.sent_bytes, self.received_bytes)
        return ConnectionSeries, (self.labels, self.place, 0, -1, *counts)

    @property
    def activity(self) -> int:
        return self.opened + self.closed

    @property
    def in_use(self) -> bool:
        return self.opened > self.closed


class RequestMetrics:
    """The series of one reporter: ``source`` on outbound listeners, ``destination`` on inbound ones. A change
    of ``local`` affects new series only."""

    def __init__(self, reporter: str, local: LocalWorkload) -> None:
        self.reporter = reporter
        self.local = local
        self._requests: SeriesTable[tuple[str, str, int, int, str, str, str], RequestSeries] = SeriesTable()
        self._connections: SeriesTable[tuple[str, str, str, str], ConnectionSeries] = SeriesTable()

    def record(self, info: StreamInfo) -> None:
        """Counts a completed request."""
        workload, call = info.host_workload, info.grpc
        key = (
            info.cluster or info.route_name,
            workload.key if workload is not None else "",
            info.status,
            _NO_CALL if call is None else call.status,
            info.flags,
            info.connection.peer_id or info.upstream_peer_id,
            info.peer_workload.key if info.peer_workload is not None else "",
        )
        series = self._requests.get(key)
        if series is None:
            labels = self._labels(info) | {
                "request_protocol": "http" if call is None else "grpc",
                "response_code": str(info.status),
                "grpc_response_status": "" if call is None or call.status == NO_STATUS else str(call.status),
            }
            series = self._requests.add(key, RequestSeries(labels, (info.cluster, key[1])))
        series.duration_ms.record((info.end_s - info.start_s) * 1000)
        series.request_bytes.record(info.bytes_received)
        series.response_bytes.record(info.bytes_sent)
        if call is not None:
            series.request_messages += call.request_messages.count
            series.response_messages += call.response_messages.count

    def connection(self, info: StreamInfo) -> ConnectionSeries:
        """The series of a TCP connection."""
        workload = info.host_workload
        key = (
            info.cluster,
            workload.key if workload is not None else "",
            info.flags,
            info.connection.peer_id or info.upstream_peer_id,
        )
        series = self._connections.get(key)
        if series is None:
            labels = self._labels(info) | {"request_protocol": "tcp"}
            series = self._connections.add(key, ConnectionSeries(labels, (info.cluster, key[1])))
        return series

    def sweep(self, places: Collection[Place]) -> None:
        """As `SeriesTable.sweep`."""
        self._requests.sweep(places)
        self._connections.sweep(places)

    def requests(self) -> Iterator[RequestSeries]:
        yield from self._requests.values()

    def connections(self) -> Iterator[ConnectionSeries]:
        yield from self._connections.values()

    def _labels(self, info: StreamInfo) -> Labels:
        service = info.service or ServiceMetadata()
        name = service.name
        if name == UNKNOWN:
            name = _CATCH_ALLS.get(info.cluster or info.route_name, UNKNOWN)
        if self.reporter == "source":
            peer = info.upstream_peer_id
            source = _local_labels("source", self.local, proved=bool(peer))
            destination = _remote_labels("destination", info.host_workload, peer)
            security = UNKNOWN  # as in Istio: only the destination knows it
        else:
            peer = info.connection.peer_id
            source = _remote_labels("source", info.peer_workload, peer)
            destination = _local_labels("destination", self.local, proved=bool(peer))
            security = "mutual_tls" if peer else "none"
        return {
            "reporter": self.reporter,
            **source,
            **destination,
            "destination_service": service.host,
            "destination_service_name": name,
            "destination_service_namespace": service.namespace,
            "response_flags": info.flags or "-",
            "connection_security_policy": security,
        }


def _local_labels(side: str, local: LocalWorkload, *, proved: bool) -> Labels:
    """The principal is set if mutual TLS has `proved` it to the peer."""
    return _workload_labels(side, local.metadata, local.principal if proved else UNKNOWN)


def _remote_labels(side: str, workload: WorkloadMetadata | None, peer_id: str) -> Labels:
    if workload is None:
        try:
            workload = WorkloadMetadata(namespace=SpiffeId.parse(peer_id).namespace)
        except ValueError:
            workload = WorkloadMetadata()
    return _workload_labels(side, workload, peer_id)


def _workload_labels(side: str, workload: WorkloadMetadata, principal: str) -> Labels:
    app, version = workload.canonical_name or UNKNOWN, workload.canonical_revision or UNKNOWN
    return {
        f"{side}_workload": workload.name or UNKNOWN,
        f"{side}_workload_namespace": workload.namespace or UNKNOWN,
        f"{side}_principal": principal or UNKNOWN,
        f"{side}_app": app,
        f"{side}_version": version,
        f"{side}_canonical_service": app,
        f"{side}_canonical_revision": version,
        f"{side}_cluster": workload.cluster or UNKNOWN,
    }
