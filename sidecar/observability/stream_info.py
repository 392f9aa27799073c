"""Facts about one request or connection, besides its bytes: for filters, metrics and the access log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.proxy_protocol import Tlv
from sidecar.errors import (
    NoClusterError,
    NoHealthyUpstreamError,
    RequestError,
    UpstreamError,
    UpstreamOverflowError,
)

if TYPE_CHECKING:
    from sidecar.config.cluster import ServiceMetadata
    from sidecar.config.endpoint import WorkloadMetadata
    from sidecar.config.tls import ServerNames
    from sidecar.observability.grpc_call import GrpcCall

# Failures that also set Envoy's upstream transport failure reason.
_UPSTREAM_FAILURES = (UpstreamError, NoHealthyUpstreamError, UpstreamOverflowError, NoClusterError)


class DownstreamConnection:
    """The downstream connection, as it was accepted; it does not change. `original_destination` is set where
    the traffic was redirected to the listener, or where a PROXY header tells it. `direct_remote_address` is
    the peer's, where such a header tells another `remote_address`; `tlvs` are those of the header.
    `upstream_source` is set where hosts see the client's address.
    `peer_id` is the client's SPIFFE URI once mTLS has proved it. `peer_certificate_sha256` is of the DER
    form, in hexadecimal; `peer_subject` is in the form of RFC 2253.

    No dataclass: making a frozen one took a tenth of the time of a new connection.
    """

    __slots__ = (
        "alpn",
        "direct_remote_address",
        "id",
        "local_address",
        "local_id",
        "original_destination",
        "peer_certificate_sha256",
        "peer_id",
        "peer_subject",
        "remote_address",
        "server_name",
        "tls_version",
        "tlvs",
        "upstream_source",
    )

    def __init__(
        self,
        *,
        id: int,
        remote_address: SocketAddress,
        local_address: SocketAddress,
        original_destination: SocketAddress | None = None,
        direct_remote_address: SocketAddress | None = None,
        tlvs: tuple[Tlv, ...] = (),
        upstream_source: UpstreamSource | None = None,
        tls_version: str = "",
        server_name: str = "",
        alpn: str = "",
        peer_id: str = "",
        local_id: str = "",
        peer_certificate_sha256: str = "",
        peer_subject: str = "",
    ) -> None:
        self.id = id
        self.remote_address = remote_address
        self.local_address = local_address
        self.original_destination = original_destination
        self.direct_remote_address = direct_remote_address or remote_address
        self.tlvs = tlvs
        self.upstream_source = upstream_source
        self.tls_version = tls_version
        self.server_name = server_name
        self.alpn = alpn
        self.peer_id = peer_id
        self.local_id = local_id
        self.peer_certificate_sha256 = peer_certificate_sha256
        self.peer_subject = peer_subject

    @property
    def destination(self) -> SocketAddress:
        """The address that the client called."""
        return self.original_destination or self.local_address


class StreamInfo:
    """Mutable on purpose: the connection manager makes it, and each layer records its decisions in it.

    Times are seconds of the monotonic clock, 0.0 while unknown; `wall_start_s` is seconds since the epoch.
    """

    __slots__ = (
        "_details",
        "attempts",
        "bytes_received",
        "bytes_sent",
        "cluster",
        "connection",
        "direct_response",
        "dynamic_metadata",
        "end_s",
        "failure",
        "flags",
        "grpc",
        "health_check",
        "host_workload",
        "offered_alpn",
        "operation",
        "peer_workload",
        "protocol",
        "request_id",
        "route_name",
        "server_names",
        "service",
        "start_s",
        "status",
        "trace_headers",
        "upstream_address",
        "upstream_failure",
        "upstream_local_address",
        "upstream_peer_id",
        "upstream_service_time_s",
        "virtual_host",
        "wall_start_s",
    )

    def __init__(self, connection: DownstreamConnection, start_s: float, wall_start_s: float) -> None:
        self.connection = connection
        self.start_s = start_s
        self.wall_start_s = wall_start_s
        self.end_s = 0.0
        self.status = 0
        self.protocol = "HTTP/1.1"
        self.flags = ""
        """Envoy's response flags, comma-separated; empty for none. For logs only: no code depends on them."""
        self._details = ""
        self.failure: type[RequestError] | None = None
        """The type of the error that ended the request, or of the last one; an error would keep its
        frames."""
        self.grpc: GrpcCall | None = None
        """None if the request is no gRPC call."""
        self.direct_response = False
        self.health_check = False
        """The health check filter recognized the request: it does not count among the completed ones."""
        self.dynamic_metadata: dict[str, dict[str, object]] | None = None
        """Values that filters leave for others, by namespace and key; None if no filter has set one."""
        self.request_id = b""
        self.trace_headers = False
        """Whether the client has sent headers that `http.tracing` reads."""
        self.operation: tuple[bytes, bytes] | None = None
        """The header by which the response names the operation to the client's proxy; None if it does not."""
        self.route_name = ""
        self.virtual_host = ""
        self.cluster = ""
        self.service: ServiceMetadata | None = None
        self.host_workload: WorkloadMetadata | None = None
        self.offered_alpn: tuple[str, ...] = ()
        """The protocols to offer to the host in TLS; empty: those of its cluster."""
        self.server_names: ServerNames | None = None
        """The names of the host in TLS; None: those of its cluster."""
        self.peer_workload: WorkloadMetadata | None = None
        """The client's, if its proxy has named it, and its certificate is of the same namespace."""
        self.upstream_address: SocketAddress | None = None
        self.upstream_local_address: SocketAddress | None = None
        self.upstream_peer_id = ""
        self.upstream_failure = ""
        self.upstream_service_time_s = 0.0
        self.attempts = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    def set_metadata(self, namespace: str, key: str, value: object) -> None:
        """A filter's `namespace` is its name, as Envoy has it (``envoy.filters.http.rbac``)."""
        if self.dynamic_metadata is None:
            self.dynamic_metadata = {}
        self.dynamic_metadata.setdefault(namespace, {})[key] = value

    def add_flag(self, flag: str) -> None:
        """Adds one of Envoy's flags that are not failures; each is recorded once."""
        if flag not in self.flags.split(","):
            self.flags = f"{self.flags},{flag}" if self.flags else flag

    @property
    def details(self) -> str:
        """Envoy's response code details: those of the failure, or those that a filter has set, or the origin
        of the response. For logs only: no code depends on them."""
        if self.failure is not None:
            return self.failure.details
        if self._details or not self.status:
            return self._details
        return "via_upstream" if self.upstream_address is not None else "direct_response"

    @details.setter
    def details(self, details: str) -> None:
        self._details = details


def fail(info: StreamInfo, error: RequestError) -> None:
    """Records why a request or a connection failed; no other code does. Code that must act on a failure
    reads the attributes of the type `StreamInfo.failure`."""
    info.failure = type(error)
    if error.flag != "-":
        info.add_flag(error.flag)
    if isinstance(error, _UPSTREAM_FAILURES):
        info.upstream_failure = str(error)
