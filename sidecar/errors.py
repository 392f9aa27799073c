"""Every error of the data plane, in one tree; the type says whose fault it was.

    SidecarError
    ├── BootstrapError              the operator's: a file, a flag, a port; the process exits with code 1
    ├── ConfigError                 the control plane's: becomes a NACK that names the field
    ├── NameResolutionError         no name server could tell which addresses a name has
    ├── IdentityError               no certificate could be had
    │   └── IdentityRefusedError        the control plane said no: asking again the same way is in vain
    └── RequestError                ends one request; `http.local_reply` turns it into a response
        ├── DownstreamError         the client's
        │   ├── DownstreamProtocolError     400: not HTTP, or HTTP that could be smuggled
        │   │   ├── ExpectationFailedError          417: an Expect that nobody knows
        │   │   └── UnsupportedTransferCodingError  501: a transfer coding beside chunked
        │   ├── UpgradeRejectedError        403: the listener lets no such tunnel through
        │   ├── HeadersTooLargeError        431
        │   ├── PayloadTooLargeError        413: longer than what a filter may buffer
        │   ├── DownstreamTimeoutError      408: too slow to send its request
        │   │   ├── RequestHeaderTimeoutError       408: the head alone
        │   │   └── StreamIdleTimeoutError          408, or 504 when the client waits: nothing moved for long
        │   └── DownstreamDisconnectError   gone before the response was complete
        ├── RoutingError            nobody to send to
        │   ├── NoRouteError                404
        │   ├── NoFilterChainError          none: the listener closes the connection
        │   ├── NoClusterError              503
        │   ├── NoHealthyUpstreamError      503
        │   └── UpstreamOverflowError       503: a circuit breaker is open
        ├── InternalError           500: ours
        └── UpstreamError           the upstream's
            ├── UpstreamConnectError        503
            ├── UpstreamResetError          503: the connection broke
            │   └── UpstreamRefusedStreamError      HTTP/2: provably not processed
            ├── UpstreamProtocolError       502
            ├── UpstreamTimeoutError        504: the route's timeout
            └── UpstreamPerTryTimeoutError  504

Flags are Envoy's: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

from typing import ClassVar


class SidecarError(Exception):
    """The root of the tree. The message names what, where and why."""


class BootstrapError(SidecarError):
    """The process cannot start as it was told to."""


class ConfigError(SidecarError):
    """A resource is invalid, or asks for what is not supported. ``path`` names the field as protobuf does."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class IdentityError(SidecarError):
    """The workload's certificate could not be had, or what was had does not fit."""


class IdentityRefusedError(IdentityError):
    """The authority refused: a token or a request that it does not accept now, nor later."""


class NameResolutionError(SidecarError):
    """No name server could tell which addresses a name has, or none in time. That a name does not exist is
    an answer, and no error."""


class RequestError(SidecarError):
    """Ends one request. ``details`` is Envoy's RESPONSE_CODE_DETAILS, ``flag`` its RESPONSE_FLAGS: both for
    logs. ``ends_connection``: the client's connection carries no request after this one."""

    status: ClassVar[int] = 503
    flag: ClassVar[str] = "-"
    details: ClassVar[str] = "internal_error"
    ends_connection: ClassVar[bool] = False


class DownstreamError(RequestError):
    status = 400
    flag = "DPE"
    details = "codec_error"


class DownstreamProtocolError(DownstreamError):
    """Not HTTP, or HTTP that two parsers could read differently."""

    ends_connection = True


class ExpectationFailedError(DownstreamProtocolError):
    status = 417
    details = "expectation_failed"


class UnsupportedTransferCodingError(DownstreamProtocolError):
    """RFC 9112 6.1 asks for 501."""

    status = 501
    details = "http1.invalid_transfer_encoding"


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


class DownstreamDisconnectError(DownstreamError):
    status = 0  # nobody is left to be told
    flag = "DC"
    details = "downstream_remote_disconnect"


class RoutingError(RequestError):
    pass


class NoRouteError(RoutingError):
    status = 404
    flag = "NR"
    details = "route_not_found"


class NoFilterChainError(RoutingError):
    """Ends a connection: before there is any request."""

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


class InternalError(RequestError):
    """A fault of the sidecar's own code; the log has its traceback."""

    status = 500


class UpstreamError(RequestError):
    """``request_sent``: whether any byte of the request can have reached the upstream.
    ``connection_reused``: whether the connection had carried other requests before; the router sets it."""

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
