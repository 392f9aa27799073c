from __future__ import annotations

import pytest

from sidecar import errors
from sidecar.http.headers import get_header
from sidecar.http.local_reply import error_reply, local_reply
from sidecar.http.message import Request
from tests.support.requests import make_request

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
        (errors.UpstreamStreamResetError("gone"), 503, RESET + b"remote reset; UR: gone"),
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
    reply = error_reply(make_request(), error)
    assert (reply.status, reply.body.whole) == (status, body)
    assert get_header(reply.headers, b"content-type") == (b"text/plain" if body else None)


def test_overload_is_marked_for_other_proxies() -> None:
    reply = error_reply(make_request(), errors.UpstreamOverflowError("full"))
    assert get_header(reply.headers, b"x-envoy-overloaded") == b"true"


def test_every_error_with_a_client_has_a_reply() -> None:
    def leaves(kind: type[errors.RequestError]) -> list[type[errors.RequestError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    for kind in leaves(errors.RequestError):
        if kind.status:
            assert error_reply(make_request(), kind("why")).status == kind.status


def grpc_call(*, over_web: bool = False, method: bytes = b"POST") -> Request:
    request = make_request(method=method)
    request.begin_grpc_call(over_web=over_web)
    return request


@pytest.mark.parametrize(
    ("status", "grpc_status"),
    [
        (400, b"13"),
        (401, b"16"),
        (403, b"7"),
        (404, b"12"),
        (408, b"2"),
        (429, b"14"),
        (500, b"2"),
        (502, b"14"),
        (503, b"14"),
        (504, b"14"),
        (301, b"2"),
        (200, b"2"),
    ],
)
def test_a_grpc_call_gets_a_grpc_status(status: int, grpc_status: bytes) -> None:
    reply = local_reply(grpc_call(), status)
    assert (reply.status, reply.body.whole) == (200, b"")
    assert reply.headers == [(b"content-type", b"application/grpc"), (b"grpc-status", grpc_status)]


def test_the_text_is_the_message_of_a_grpc_call() -> None:
    reply = error_reply(grpc_call(), errors.UpstreamConnectError("100% refused~\n\u00fc"))
    message = RESET + b"remote connection failure; UF: 100%25 refused%7E%0A%C3%BC"
    assert reply.headers == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", message),
    ]


def test_the_answer_to_head_has_no_message() -> None:
    reply = local_reply(grpc_call(method=b"HEAD"), 503, b"text")
    assert get_header(reply.headers, b"grpc-message") is None


def test_a_caller_can_choose_the_grpc_status() -> None:
    reply = local_reply(grpc_call(), 504, grpc_status=4)
    assert get_header(reply.headers, b"grpc-status") == b"4"


def test_other_headers_of_the_reply_are_kept() -> None:
    reply = error_reply(grpc_call(), errors.UpstreamOverflowError("full"))
    assert get_header(reply.headers, b"x-envoy-overloaded") == b"true"


def test_a_grpc_web_call_gets_plain_http_which_its_filter_translates() -> None:
    reply = local_reply(grpc_call(over_web=True), 503, b"text")
    assert (reply.status, reply.body.whole) == (503, b"text")
