"""Requests of HTTP/2 that a row for HTTP/1.1 cannot say."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from tests.interop.parity.comparison import Fields, Row
from tests.interop.parity.over_http2 import Http2Client
from tests.support.raw_http import DEADLINE_S, Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Row):
    """The body is sent in one frame. `ends`: the request is complete. `reset` is the code of the client's
    RST_STREAM, which follows the head of the response, or the request if there is no `answer_first`."""

    request: bytes = b""
    head: Fields
    body: bytes = b""
    trailers: Fields | None = None
    ends: bool = True
    reset: int | None = None
    answer_first: bool = False


def call(
    path: str,
    *fields: tuple[str, str],
    answer: str = "ok",
    expect: str = "",
    method: str = "GET",
    authority: str | None = "calls.test",
    grpc: bool = False,
    **more: object,
) -> Call:
    head = [(":method", "POST" if grpc else method), (":scheme", "http"), (":path", path)]
    if authority is not None:
        head.insert(2, (":authority", authority))
    if grpc:
        head += [("content-type", "application/grpc"), ("te", "trailers")]
        more = {"body": b"\0\0\0\0\2hi", **more}
    return Call(head=[*head, ("answer", answer), *fields], expect=expect, **more)  # type: ignore[arg-type]


def converse(until_asked: Callable[[], None]) -> Callable[[int, Row], tuple[list[Answer], bool]]:
    """`until_asked` returns when the upstream has got the request."""

    def send(port: int, row: Row) -> tuple[list[Answer], bool]:
        assert isinstance(row, Call)
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
            client = Http2Client(connection)
            stream = client.send(row.head, row.body, row.trailers, ends=row.ends)
            if row.reset is None:
                return client.read(stream), client.is_open()
            client.flush()
            if row.answer_first:
                answers = client.read(stream, only_head=True)
            else:
                answers = []
                until_asked()
            client.reset(stream, row.reset)
            return answers, client.is_open()

    return send
