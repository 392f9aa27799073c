"""Turns an error into a response; no other module does.

Status and first words are the same as Envoy's, which people know and search for. The response flag and the
reason follow, because "upstream connect error" alone explains nothing.
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

# Envoy's texts by type, the most derived type first.
_TEXTS: tuple[tuple[type[RequestError], str], ...] = (
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
    """Returns the reply to the client. `status` overrides the status of `error`."""
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
    for kind, text in _TEXTS:
        if isinstance(error, kind):
            return f"{text}; {error.flag}: {error}"
    return str(error)
