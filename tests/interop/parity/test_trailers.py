"""Trailers between an upstream of HTTP/1.1 and clients of both versions; `http2_call_rows` has those of an
upstream of HTTP/2. Envoy passes the trailers of HTTP/1.1 because the bootstrap file has ``enable_trailers``.

HTTP/1.1 has no place for trailers behind a body that is framed by its Content-Length: both proxies drop them.
"""

from __future__ import annotations

import pytest

from tests.interop.parity.comparison import ProxyPair, Row
from tests.interop.parity.http2_calls import Call, call, converse

HOST = "forwarding.test"
TRAILERS = [("x-sum", "1"), ("x-sum", "2")]
_CHUNKS = "2\r\nhi\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n"


def over_http1(body: str, answer: str = "ok") -> Row:
    head = [f"POST / HTTP/1.1\r\nhost: {HOST}\r\nanswer: {answer}\r\ntransfer-encoding: chunked"]
    return Row(request="\r\n\r\n".join([*head, body]).encode(), expect="200")


def over_http2(*fields: tuple[str, str], answer: str = "ok", body: bytes = b"hi") -> Call:
    return call(
        "/", *fields, answer=answer, method="POST", authority=HOST, body=body, trailers=TRAILERS, expect="200"
    )


ROWS: dict[str, Row] = {
    "HTTP/1.1": over_http1(_CHUNKS),
    "HTTP/1.1, without content": over_http1(_CHUNKS.removeprefix("2\r\nhi\r\n")),
    "HTTP/1.1, in both messages": over_http1(_CHUNKS, "trailers"),
    "HTTP/2": over_http2(),
    "HTTP/2, without content": over_http2(body=b""),
    "HTTP/2, in both messages": over_http2(answer="trailers"),
    "HTTP/2, dropped: the body has a length": over_http2(("content-length", "2")),
    "HTTP/2, dropped: the body has the length 0": over_http2(("content-length", "0"), body=b""),
}


@pytest.mark.parametrize("name", ROWS)
def test_trailers(proxies: ProxyPair, name: str) -> None:
    row = ROWS[name]
    proxies.check(row, converse(lambda: None) if isinstance(row, Call) else None)
