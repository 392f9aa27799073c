"""The states of a server's connection under any order of events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import NoHealthyUpstreamError, UpstreamResetError
from sidecar.http.body import Body, BodyStream
from sidecar.http.h1.connection_state import (
    CLOSED,
    TRANSITIONS,
    ConnectionEvent,
    ConnectionPhase,
    ConnectionState,
)
from sidecar.http.message import Request, Response
from tests.support.http1 import Server, settle

HEAD = b" / HTTP/1.1\r\nHost: a\r\n"
DATA = {
    "get": b"GET" + HEAD + b"\r\n",
    "two": (b"GET" + HEAD + b"\r\n") * 2,
    "head": b"HEAD" + HEAD + b"\r\n",
    "last": b"GET" + HEAD + b"Connection: close\r\n\r\n",
    "http10": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "upload": b"POST" + HEAD + b"Content-Length: 5\r\n\r\nab",
    "rest": b"cde",
    "upgrade": b"GET" + HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "begin": b"GET / HT",
    "rubbish": b"\x00\r\n\r\n",
    "empty line": b"\r\n",
}
SERVICE = ["whole", "stream", "feed", "end", "break", "error", "fault", "switch"]
CLIENT = ["eof", "lost", "slow", "fast", "wait", "long wait"]
MANAGER = ["drain", "close"]


class Stack:
    """A service that a test controls, for the active request."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Response]] = []
        self.body: BodyStream | None = None

    async def __call__(self, request: Request) -> Response:
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        try:
            return await answer
        finally:
            request.body.close()

    def act(self, action: str) -> None:
        body = self.body
        if action == "feed" and body is not None and not body.ended:
            body.feed(b"x")
        elif action == "end" and body is not None and not body.ended:
            body.feed_end()
        elif action == "break" and body is not None:
            body.fail(UpstreamResetError("gone"))
        waiting = [answer for answer in self.waiting if not answer.done()]
        if not waiting or action in ("feed", "end", "break"):
            return
        if action == "error":
            waiting[0].set_exception(NoHealthyUpstreamError("none"))
        elif action == "fault":
            waiting[0].set_exception(ZeroDivisionError())
        else:
            waiting[0].set_result(self._response(action))

    def _response(self, action: str) -> Response:
        if action == "whole":
            return Response(200, [], Body(b"hello"))
        self.body = BodyStream()
        response = Response(101 if action == "switch" else 200, [], self.body)
        response.upgraded = action == "switch"
        return response


def act(server: Server, stack: Stack, action: str) -> None:
    transport = server.transport
    if action in DATA and not transport.closed:
        server.protocol.data_received(DATA[action])
    elif action in SERVICE:
        stack.act(action)
    elif action == "eof" and not transport.closed:
        transport.receive_eof()
    elif action == "lost":
        transport.lose(ConnectionResetError())
    elif action == "slow" and not transport.closed:
        server.protocol.pause_writing()
        transport.unflushed_bytes = 5000
    elif action == "fast":
        transport.unflushed_bytes = 0
        server.protocol.resume_writing()
    elif action == "drain":
        server.manager.drain()
    elif action == "close":
        server.manager.close()
    elif action in ("wait", "long wait"):
        server.time.advance(1 if action == "wait" else 100)


async def run(actions: list[str]) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    stack = Stack()
    server = Server(
        stack,
        upgrades=frozenset({"websocket"}),
        idle_timeout_s=60.0,
        stream_idle_timeout_s=30.0,
        request_timeout_s=20.0,
        request_headers_timeout_s=10.0,
    )
    for action in actions:
        act(server, stack, action)
        await settle()
    server.transport.unflushed_bytes = 0
    server.manager.close()
    await settle()
    server.time.advance(1000)
    await settle()
    stats = server.stats
    if stats.downstream_cx_active:  # the transport was closing, and the client has taken nothing
        server.transport.abort()
        await settle()
    assert faults == []
    assert server.time.errors == []
    assert (stats.downstream_rq_active, stats.downstream_cx_active) == (0, 0)
    assert stats.downstream_cx_upgrades_active == 0
    assert len(server.ended) == stats.downstream_rq_total


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*DATA, *SERVICE, *SERVICE, *CLIENT, *MANAGER]), max_size=12))
@pytest.mark.filterwarnings("error")
def test_every_exchange_ends_once_for_all_orders_of_events(actions: list[str]) -> None:
    asyncio.run(run(actions))


def test_a_lost_connection_is_closed_from_every_state() -> None:
    for state in ConnectionPhase:
        if state is not CLOSED:
            assert TRANSITIONS[state][ConnectionEvent.CONNECTION_LOST] is CLOSED


def test_an_impossible_transition_is_a_fault() -> None:
    state = ConnectionState()
    with pytest.raises(KeyError):
        state.move(ConnectionEvent.RESPONSE_WRITTEN)
