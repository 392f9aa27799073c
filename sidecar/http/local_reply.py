"""The replies of the proxy itself. Only this module turns an error into a response.

Status and first words are the same as Envoy's, which people know and search for. The response flag and the
reason follow, because "upstream connect error" alone explains nothing.
"""

from __future__ import annotations

from sidecar.errors import (
    DownstreamError,
    NoClusterError,
    NoHealthyUpstreamError,
    NoRouteError,
    RequestError,
    UpgradeRejectedError,
    UpstreamConnectError,
    UpstreamOverflowError,
    UpstreamPerTryTimeoutError,
    UpstreamProtocolError,
    UpstreamRefusedStreamError,
    UpstreamResetError,
    UpstreamStreamResetError,
    UpstreamTimeoutError,
)
from sidecar.grpc_status import NO_STATUS, encode_grpc_message, grpc_status_of_http
from sidecar.http.body import Body
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response
from sidecar.http.reason import reason

_RESET = "upstream connect error or disconnect/reset before headers. reset reason: "

# Envoy's texts by type, the most derived type first.
_TEXTS: tuple[tuple[type[RequestError], str], ...] = (
    (UpstreamOverflowError, _RESET + "overflow"),
    (UpstreamConnectError, _RESET + "remote connection failure"),
    (UpstreamRefusedStreamError, _RESET + "remote refused stream reset"),
    (UpstreamStreamResetError, _RESET + "remote reset"),
    (UpstreamResetError, _RESET + "connection termination"),
    (UpstreamProtocolError, _RESET + "protocol error"),
    (UpstreamPerTryTimeoutError, "upstream request timeout"),
    (UpstreamTimeoutError, "upstream request timeout"),
)
_WITHOUT_BODY = (NoRouteError, UpgradeRejectedError)


def local_reply(
    request: Request,
    status: int,
    text: bytes = b"",
    headers: Headers | None = None,
    grpc_status: int = NO_STATUS,
) -> Response:
    """Returns a reply that the proxy makes itself: of a filter, of a route, or to an error.

    A gRPC call gets a gRPC status without content, in a response of 200 ("Trailers-Only"): `grpc_status`, or
    the one that follows from `status`. `headers` are added in both cases.
    """
    fields = [] if headers is None else headers
    call = request.info.grpc
    if call is not None and not call.over_web:
        if grpc_status == NO_STATUS:
            grpc_status = grpc_status_of_http(status)
        fields += [(b"content-type", b"application/grpc"), (b"grpc-status", b"%d" % grpc_status)]
        if text and request.method != b"HEAD":
            fields.append((b"grpc-message", encode_grpc_message(text)))
        return Response(200, fields)
    if not text:
        return Response(status, fields)
    fields += [(b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain")]
    return Response(status, fields, Body(text))


def error_reply(
    request: Request, error: RequestError, status: int | None = None, grpc_status: int = NO_STATUS
) -> Response:
    """Returns the reply to a request that has failed. `status` and `grpc_status` override those of
    `error`."""
    status = status or error.status
    headers: Headers = []
    if isinstance(error, UpstreamOverflowError):
        headers.append((b"x-envoy-overloaded", b"true"))
    if grpc_status == NO_STATUS:
        grpc_status = error.grpc_status
    return local_reply(request, status, _text(error, status).encode(), headers, grpc_status)


def _text(error: RequestError, status: int) -> str:
    if isinstance(error, _WITHOUT_BODY):
        return ""
    if isinstance(error, NoHealthyUpstreamError):
        return "no healthy upstream"
    if isinstance(error, NoClusterError):
        return f"cluster not found; {error.flag}: {error}"
    if isinstance(error, DownstreamError):
        return f"{reason(status)}: {error}"
    for kind, text in _TEXTS:
        if isinstance(error, kind):
            return f"{text}; {error.flag}: {error}"
    return str(error)
