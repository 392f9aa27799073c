"""The one place where an error becomes a response.

Status and opening words are Envoy's, so that people find what they know; then come the response flag and what
happened, because a bare "upstream connect error" explains nothing.
"""

from __future__ import annotations

from http import HTTPStatus

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
    UpstreamTimeoutError,
)
from sidecar.http.body import Body
from sidecar.http.message import Response

_RESET = "upstream connect error or disconnect/reset before headers. reset reason: "

# Envoy's words by type, the most derived type first.
_WORDS: tuple[tuple[type[RequestError], str], ...] = (
    (UpstreamOverflowError, _RESET + "overflow"),
    (UpstreamConnectError, _RESET + "remote connection failure"),
    (UpstreamRefusedStreamError, _RESET + "remote refused stream reset"),
    (UpstreamResetError, _RESET + "connection termination"),
    (UpstreamProtocolError, _RESET + "protocol error"),
    (UpstreamPerTryTimeoutError, "upstream request timeout"),
    (UpstreamTimeoutError, "upstream request timeout"),
)
_WITHOUT_BODY = (NoRouteError, UpgradeRejectedError)


def local_reply(error: RequestError, status: int | None = None) -> Response:
    """What the client is told of `error`. `status` overrides the error's own."""
    status = status or error.status
    text = _text(error, status)
    if not text:
        return Response(status, [])
    body = text.encode()
    response = Response(
        status, [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")], Body(body)
    )
    if isinstance(error, UpstreamOverflowError):
        response.headers.append((b"x-envoy-overloaded", b"true"))
    return response


def _text(error: RequestError, status: int) -> str:
    if isinstance(error, _WITHOUT_BODY):
        return ""
    if isinstance(error, NoHealthyUpstreamError):
        return "no healthy upstream"
    if isinstance(error, NoClusterError):
        return f"cluster not found; {error.flag}: {error}"
    if isinstance(error, DownstreamError):
        return f"{HTTPStatus(status).phrase}: {error}"
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return f"{words}; {error.flag}: {error}"
    return str(error)
