from __future__ import annotations

import dataclasses

import pytest

from sidecar.http.codec import client_codec
from sidecar.http.message import Request, Response
from tests.support.http1 import CLIENT, Server, response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4


async def hello(request: Request) -> Response:
    return response(b"hello")


@pytest.mark.parametrize("alpn", ["", "http/1.1", "h2"])
async def test_http2_is_refused_with_a_reason(alpn: str) -> None:
    server = Server(hello, dataclasses.replace(CLIENT, alpn=alpn))
    answer = await server.exchange(PREFACE)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert server.transport.eof_written
    assert server.stats.downstream_cx_protocol_error == 1


@pytest.mark.parametrize("alpn", ["", "http/1.1"])
async def test_a_host_is_spoken_to_in_http1(alpn: str) -> None:
    assert client_codec(alpn).capacity == 1
