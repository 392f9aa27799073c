"""The states of a client's connection under any order of events."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.errors import DownstreamDisconnectError
from sidecar.http.body import BodyStream
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.http.h1.client_state import (
    CLOSED,
    LOST,
    TRANSITIONS,
    ClientEvent,
    ClientPhase,
)
from sidecar.http.message import Request, Response
from tests.support.http1 import FakeTransport, new_request, settle
from tests.support.http1_client import exchange

DATA = {
    "whole": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "last": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "unframed": b"HTTP/1.1 200 OK\r\n\r\nab",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    "last chunk": b"0\r\n\r\n",
    "switch": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "connected": b"HTTP/1.1 200 OK\r\n\r\n",
    "hint": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "rubbish": b"\x00\r\n\r\n",
}
REQUESTS = ["get", "upload", "upgrade", "connect", "forged connect"]
CLIENT = ["feed", "end", "break", "cancel", "leave", "close"]
UPSTREAM = ["eof", "lost", "slow", "fast"]


class Pool:
    """One connection: lent when it is idle. It counts the ends of exchanges and of the connection."""

    def __init__(self) -> None:
        self.connection = Http1ClientConnection()
        self.connection.events = self
        self.transport = FakeTransport(self.connection)
        self.lent = False
        self.ends = 0
        self.body = BodyStream()
        self.sending: asyncio.Task[Response] | None = None

    def exchange_ended(self) -> None:
        assert self.lent
        self.lent = False

    def closed(self) -> None:
        assert self.connection.closed
        assert self.lent or not self.connection.cut_short
        self.ends += 1
        self.lent = False

    def capacity_changed(self) -> None: ...

    def draining(self) -> None: ...

    def send(self, kind: str) -> None:
        if self.lent or self.connection.closed:
            return
        self.lent = True
        self.body = BodyStream()
        self.sending = asyncio.get_running_loop().create_task(exchange(self.connection, self._request(kind)))

    def _request(self, kind: str) -> Request:
        if kind == "get":
            return new_request()
        if kind == "forged connect":
            return new_request(b"CONNECT", b"")
        request = new_request(b"CONNECT" if kind == "connect" else b"POST", body=self.body)
        request.upgrade = {"upgrade": b"websocket", "connect": b"connect"}.get(kind)
        return request

    def act(self, action: str) -> None:
        if action in DATA:
            if not self.transport.closed:
                self.connection.data_received(DATA[action])
        elif action in REQUESTS:
            self.send(action)
        elif action in UPSTREAM:
            self._act_upstream(action)
        else:
            self._act_client(action)

    def _act_upstream(self, action: str) -> None:
        if action == "eof" and not self.transport.closed:
            self.transport.receive_eof()
        elif action == "lost":
            self.transport.lose(ConnectionResetError())
        elif action == "slow" and not self.transport.closed:
            self.connection.pause_writing()
            self.transport.unflushed_bytes = 5000
        elif action == "fast":
            self.transport.unflushed_bytes = 0
            self.connection.resume_writing()

    def _act_client(self, action: str) -> None:
        sending = self.sending
        if action == "feed" and not self.body.ended:
            self.body.feed(b"x")
        elif action == "end" and not self.body.ended:
            self.body.feed_end()
        elif action == "break":
            self.body.fail(DownstreamDisconnectError("gone"))
        elif action == "cancel" and sending is not None:
            sending.cancel()
        elif action == "leave" and sending is not None and sending.done() and not sending.cancelled():
            if sending.exception() is None:
                sending.result().body.close()
        elif action == "close":
            self.connection.close()


async def run(actions: list[str]) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    pool = Pool()
    for action in actions:
        pool.act(action)
        await settle()
    pool.transport.unflushed_bytes = 0
    pool.connection.close()
    pool.transport.abort()
    await settle()
    if pool.sending is not None:
        assert pool.sending.done()
        await asyncio.gather(pool.sending, return_exceptions=True)
    assert faults == []
    assert (pool.ends, pool.lent) == (1, False)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*DATA, *REQUESTS, *REQUESTS, *CLIENT, *UPSTREAM]), max_size=12))
@pytest.mark.filterwarnings("error")
def test_connection_ends_once_in_whatever_order_things_happen(actions: list[str]) -> None:
    asyncio.run(run(actions))


def test_connection_ends_from_every_state() -> None:
    for phase in ClientPhase:
        if phase < CLOSED:
            assert TRANSITIONS[phase][ClientEvent.CONNECTION_CLOSES] is CLOSED
            assert TRANSITIONS[phase][ClientEvent.CONNECTION_LOST] is LOST
        else:
            assert TRANSITIONS[phase] == {}
