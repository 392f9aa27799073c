"""All errors of the data plane, in one tree. The type tells which side is responsible.

    SidecarError
    ├── BootstrapError              the operator: a file, a flag, a port; the process exits with code 1
    ├── ConfigError                 the control plane: becomes a NACK that names the field
    ├── WorkerError                 a worker process does not answer, or has ended
    ├── NameResolutionError         no name server answered with the addresses of a name
    ├── DnsQueryError               a message to the DNS resolver that is not a query
    ├── IdentityError               a certificate is missing, invalid, or does not match
    │   └── IdentityRefusedError        the control plane refused; a retry would fail too
    └── RequestError                ends one request; `http.local_reply` turns it into a response
        ├── DownstreamError         the client
        │   ├── DownstreamProtocolError     400: invalid HTTP, or HTTP that allows smuggling
        │   │   ├── ExpectationFailedError          417: an unknown Expect
        │   │   ├── PathNormalizationError          400: a path with a fragment, or with an escaped NUL
        │   │   └── UnsupportedTransferCodingError  501: a transfer coding other than chunked
        │   ├── GrpcWebEncodingError        400: the content of a gRPC-Web call is no base64
        │   │   └── GrpcWebSizeError                400: it ends too early
        │   ├── UpgradeRejectedError        403: the listener does not allow such a tunnel
        │   ├── HeadersTooLargeError        431
        │   ├── PayloadTooLargeError        413: longer than a filter may buffer
        │   ├── DownstreamTimeoutError      408: the client was too slow to send its request
        │   │   ├── RequestHeaderTimeoutError       408: to send the head
        │   │   ├── StreamIdleTimeoutError          408, or 504 if the client waits: no data for too long
        │   │   └── StreamDurationError             408, or 504 if the client waits: too long in total
        │   └── DownstreamDisconnectError   the client disconnected before the response was complete
        │       ├── DownstreamResetError        the client reset the stream
        │       └── DownstreamCodecError        the client broke the protocol of HTTP/2
        ├── RoutingError            no destination
        │   ├── NoRouteError                404
        │   ├── NoFilterChainError          none: the listener closes the connection
        │   ├── NoClusterError              503
        │   ├── NoHealthyUpstreamError      503
        │   └── UpstreamOverflowError       503: a circuit breaker is open
        ├── TcpProxyError           ends a TCP connection that is proxied
        │   ├── TcpIdleTimeoutError         no bytes moved for too long
        │   ├── TcpDurationError            it is too old
        │   └── TcpUpstreamResetError       the host reset it
        │       └── TcpUpstreamResetAtOnceError     before the first byte was passed on
        ├── FaultAbortError         200 to 599: the fault filter aborts the request, as it was told to
        ├── InternalError           500: the sidecar
        └── UpstreamError           the upstream
            ├── UpstreamConnectError        503
            ├── UpstreamResetError          503: the connection broke
            │   ├── UpstreamRefusedStreamError      HTTP/2: certainly not processed
            │   └── UpstreamStreamResetError        HTTP/2: the upstream reset the stream
            ├── UpstreamProtocolError       502
            ├── UpstreamTimeoutError        504: the route's timeout
            └── UpstreamPerTryTimeoutError  504

Flags are Envoy's: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

from typing import ClassVar

from sidecar.grpc_status import NO_STATUS


class SidecarError(Exception):
    """The root of the tree. The message names the failed action, its object and the reason."""


class BootstrapError(SidecarError):
    """The process cannot start with these settings."""


class ConfigError(SidecarError):
    """A resource is invalid or not supported. ``path`` names the field as protobuf does."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class WorkerError(SidecarError):
    """A worker process does not answer in time, or has ended. The message names the worker."""


class DnsQueryError(SidecarError):
    """A message to the DNS resolver that is not a valid query. ``answer`` is the response to it; empty: it
    gets none."""

    def __init__(self, answer: bytes = b"") -> None:
        super().__init__("the message is not a valid query")
        self.answer = answer


class IdentityError(SidecarError):
    """A certificate is missing, invalid, or does not match."""


class IdentityRefusedError(IdentityError):
    """The authority refused the token or the request; a retry would fail too."""


class NameResolutionError(SidecarError):
    """No name server answered in time with the addresses of a name. A name that does not exist is an answer,
    not an error."""


class RequestError(SidecarError):
    """Ends one request. ``details`` is Envoy's RESPONSE_CODE_DETAILS, ``flag`` its RESPONSE_FLAGS: both for
    logs. ``grpc_status`` is for gRPC calls; without one, it follows from ``status``. ``ends_connection``: the
    client's connection carries no request after this one."""

    status: ClassVar[int] = 503
    flag: ClassVar[str] = "-"
    details: ClassVar[str] = "internal_error"
    grpc_status: ClassVar[int] = NO_STATUS
    ends_connection: ClassVar[bool] = False


class DownstreamError(RequestError):
    status = 400
    flag = "DPE"
    details = "codec_error"


class DownstreamProtocolError(DownstreamError):
    """Invalid HTTP, or HTTP that two parsers could interpret differently."""

    ends_connection = True


class ExpectationFailedError(DownstreamProtocolError):
    status = 417
    details = "expectation_failed"


class PathNormalizationError(DownstreamProtocolError):
    """A path with a fragment, or with an escaped NUL where paths are normalized."""

    flag = "-"
    details = "path_normalization_failed"


class UnsupportedTransferCodingError(DownstreamProtocolError):
    """RFC 9112 6.1 requires 501."""

    status = 501
    details = "http1.invalid_transfer_encoding"


class GrpcWebEncodingError(DownstreamError):
    flag = "-"
    details = "grpc_base_64_decode_failed"
    ends_connection = True


class GrpcWebSizeError(GrpcWebEncodingError):
    details = "grpc_base_64_decode_failed_bad_size"


class UpgradeRejectedError(DownstreamError):
    status = 403
    flag = "-"
    details = "upgrade_failed"


class HeadersTooLargeError(DownstreamError):
    status = 431
    ends_connection = True
    details = "request_headers_too_large"


class PayloadTooLargeError(DownstreamError):
    status = 413
    flag = "-"
    details = "request_payload_too_large"


class DownstreamTimeoutError(DownstreamError):
    status = 408
    flag = "DT"
    details = "request_overall_timeout"


class RequestHeaderTimeoutError(DownstreamTimeoutError):
    details = "request_header_timeout"


class StreamIdleTimeoutError(DownstreamTimeoutError):
    flag = "SI"
    details = "stream_idle_timeout"


class StreamDurationError(DownstreamTimeoutError):
    flag = "DT"
    details = "max_duration_timeout"
    grpc_status = 4


class DownstreamDisconnectError(DownstreamError):
    status = 0  # there is no client to answer
    flag = "DC"
    details = "downstream_remote_disconnect"


class DownstreamResetError(DownstreamDisconnectError):
    """RST_STREAM (RFC 9113 6.4)."""

    flag = "DR"
    details = "http2.remote_reset"


class DownstreamCodecError(DownstreamDisconnectError):
    """A stream of HTTP/2, or its connection, ends because the client broke the protocol."""

    flag = "DPE"
    details = "codec_error"


class RoutingError(RequestError):
    pass


class NoRouteError(RoutingError):
    status = 404
    flag = "NR"
    details = "route_not_found"


class NoFilterChainError(RoutingError):
    """Ends a connection before its first request."""

    flag = "NR"
    details = "filter_chain_not_found"


class NoClusterError(RoutingError):
    flag = "NC"
    details = "cluster_not_found"


class NoHealthyUpstreamError(RoutingError):
    flag = "UH"
    details = "no_healthy_upstream"


class UpstreamOverflowError(RoutingError):
    flag = "UO"
    details = "overflow"


class TcpProxyError(RequestError):
    """Ends a TCP connection that is proxied."""

    details = ""


class TcpIdleTimeoutError(TcpProxyError):
    """No bytes moved for the idle timeout of the TCP proxy."""

    details = "idle_timeout"


class TcpDurationError(TcpProxyError):
    """The connection is as old as the TCP proxy allows."""

    flag = "DT"
    details = "max_connection_duration_reached"


class TcpUpstreamResetError(TcpProxyError):
    """Envoy has no flag for a reset by the client."""

    flag = "UR"


class TcpUpstreamResetAtOnceError(TcpUpstreamResetError):
    """Before the first byte was passed on."""

    details = "upstream_reset_before_response_started{connection_termination}"


class FaultAbortError(RequestError):
    """Injected by the fault filter, with a status of its configuration."""

    flag = "FI"
    details = "fault_filter_abort"


class InternalError(RequestError):
    """A defect of the sidecar; the log has the traceback."""

    status = 500


class UpstreamError(RequestError):
    """``request_sent``: whether any byte of the request can have reached the upstream.
    ``connection_reused``: whether the connection had served other requests before; the router sets it."""

    def __init__(self, message: str, *, request_sent: bool = False) -> None:
        super().__init__(message)
        self.request_sent = request_sent
        self.connection_reused = False


class UpstreamConnectError(UpstreamError):
    flag = "UF"
    details = "upstream_reset_before_response_started{connection_failure}"


class UpstreamResetError(UpstreamError):
    flag = "UC"
    details = "upstream_reset_before_response_started{connection_termination}"


class UpstreamRefusedStreamError(UpstreamResetError):
    """RFC 9113 8.7: REFUSED_STREAM, or a stream above the last one that GOAWAY names."""

    flag = "UR"
    details = "upstream_reset_before_response_started{remote_refused_stream_reset}"


class UpstreamStreamResetError(UpstreamResetError):
    """RST_STREAM (RFC 9113 6.4)."""

    flag = "UR"
    details = "upstream_reset_before_response_started{remote_reset}"


class UpstreamProtocolError(UpstreamError):
    status = 502
    flag = "UPE"
    details = "upstream_reset_before_response_started{protocol_error}"


class UpstreamTimeoutError(UpstreamError):
    status = 504
    flag = "UT"
    details = "upstream_response_timeout"


class UpstreamPerTryTimeoutError(UpstreamError):
    status = 504
    flag = "UT"
    details = "upstream_per_try_timeout"
