from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.http.headers import get_header
from sidecar.http.local_reply import local_reply

RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (errors.NoRouteError("no route"), 404, b""),
        (errors.NoClusterError("there is no x"), 503, b"cluster not found; NC: there is no x"),
        (errors.NoHealthyUpstreamError("none"), 503, b"no healthy upstream"),
        (errors.UpstreamOverflowError("full"), 503, RESET + b"overflow; UO: full"),
        (errors.UpstreamConnectError("refused"), 503, RESET + b"remote connection failure; UF: refused"),
        (errors.UpstreamResetError("gone"), 503, RESET + b"connection termination; UC: gone"),
        (errors.UpstreamRefusedStreamError("no"), 503, RESET + b"remote refused stream reset; UR: no"),
        (errors.UpstreamProtocolError("bad"), 502, RESET + b"protocol error; UPE: bad"),
        (errors.UpstreamTimeoutError("15 s"), 504, b"upstream request timeout; UT: 15 s"),
        (errors.UpstreamPerTryTimeoutError("2 s"), 504, b"upstream request timeout; UT: 2 s"),
        (errors.DownstreamProtocolError("missing Host"), 400, b"Bad Request: missing Host"),
        (errors.HeadersTooLargeError("x"), 431, b"Request Header Fields Too Large: x"),
        (errors.UpgradeRejectedError("x"), 403, b""),
        (errors.InternalError("x"), 500, b"x"),
    ],
)
def test_status_and_text(error: errors.RequestError, status: int, body: bytes) -> None:
    reply = local_reply(error)
    assert (reply.status, reply.body.whole) == (status, body)
    assert get_header(reply.headers, b"content-type") == (b"text/plain" if body else None)


def test_overload_is_marked_for_other_proxies() -> None:
    reply = local_reply(errors.UpstreamOverflowError("full"))
    assert get_header(reply.headers, b"x-envoy-overloaded") == b"true"


def test_every_error_with_a_client_has_a_reply() -> None:
    def leaves(kind: type[errors.RequestError]) -> list[type[errors.RequestError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(errors.RequestError):
        if kind.status:
            assert local_reply(kind("why")).status == kind.status
