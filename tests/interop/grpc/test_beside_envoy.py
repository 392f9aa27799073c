"""Envoy on either side of a hop in HTTP/2 over mutual TLS, whose SPIFFE identities both sides verify.

client -> Envoy -> mTLS -> sidecar -> app        client -> sidecar -> mTLS -> Envoy -> app
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from h2.errors import ErrorCodes

from tests.interop.grpc.conftest import CLIENT, SERVER, Document, identity, inbound, outbound
from tests.interop.grpc.service import serving
from tests.support.admin_client import ask
from tests.support.certificates import TestAuthority
from tests.support.envoy import envoy_command
from tests.support.envoy_config import address
from tests.support.grpc_interop import CASES, run_case
from tests.support.http2_peer import Http2Peer, Http2Upstream, http2_client, http2_upstream
from tests.support.listening import eventually
from tests.support.processes import Child, child, free_port
from tests.support.running_sidecar import running

LARGE = Random(2).randbytes(1_000_000)
HOPS = [("envoy", "sidecar"), ("sidecar", "envoy")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    port: int
    admin_port: int
    process: Child


@contextmanager
def proxy(kind: str, folder: Path, document: Document, port: int, drain_time_s: int = 0) -> Iterator[Proxy]:
    folder.mkdir()
    with ExitStack() as stack:
        if kind == "sidecar":
            sidecar = stack.enter_context(running(folder, document, "--drain-time-s", str(drain_time_s)))
            process, admin_port = sidecar.process, sidecar.port("admin")
        else:
            admin_port = free_port()
            file = folder / "envoy.json"
            file.write_text(json.dumps({**document, "admin": {"address": address(admin_port)}}))
            command = envoy_command(
                file, "--drain-time-s", str(drain_time_s), "--drain-strategy", "immediate"
            )
            process = stack.enter_context(child(command, folder / "stderr"))
        process.wait_for_port(port)
        yield Proxy(port=port, admin_port=admin_port, process=process)


@contextmanager
def hop(
    kinds: tuple[str, str], folder: Path, app_port: int, *, server: str = SERVER, drain_time_s: int = 0
) -> Iterator[list[Proxy]]:
    """The two proxies. The second one has the identity `server`, and the first one accepts `SERVER`."""
    now_s = time.time()
    authority = TestAuthority("hop", not_before=now_s - 3600, not_after=now_s + 3600)
    first, second = free_port(), free_port()
    takes = inbound(second, app_port, identity(folder, authority, server, CLIENT))
    sends = outbound(first, second, identity(folder, authority, CLIENT, SERVER))
    # The first one ends first: the second one would wait for it.
    with (
        proxy(kinds[1], folder / "second", takes, second, drain_time_s) as taker,
        proxy(kinds[0], folder / "first", sends, first) as sender,
    ):
        yield [sender, taker]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanges:
    client: Http2Peer
    app: Http2Upstream
    second: Proxy


@asynccontextmanager
async def exchanges(kinds: tuple[str, str], folder: Path, **options: Any) -> AsyncIterator[Exchanges]:
    async with http2_upstream() as app:
        with hop(kinds, folder, app.port, **options) as (first, second):
            async with await http2_client(first.port) as client:
                yield Exchanges(client=client, app=app, second=second)


async def echo_with_trailers(peer: Http2Peer, stream_id: int) -> None:
    message = peer.messages[stream_id]
    await peer.until(lambda: message.ended)
    peer.h2.send_headers(stream_id, [(":status", "200")])
    await peer.send_body(stream_id, message.body, end=False)
    peer.h2.send_headers(stream_id, list(message.trailers.items()), end_stream=True)
    peer.flush()


pytestmark = pytest.mark.parametrize("kinds", HOPS, ids="-to-".join)
with_uvloop = pytest.mark.asyncio(loop_factories=["uvloop"])


@with_uvloop
async def test_bodies_trailers_and_resets_pass(kinds: tuple[str, str], tmp_path: Path) -> None:
    async with exchanges(kinds, tmp_path) as made:
        client, app = made.client, made.app
        app.serve = echo_with_trailers
        stream_id = client.request("POST", "/", ("te", "trailers"), end=False)
        await client.send_body(stream_id, LARGE, end=False)
        client.h2.send_headers(stream_id, [("x-check", "1")], end_stream=True)
        client.flush()
        answer = await client.answer(stream_id)
        assert (answer.status, answer.body, answer.trailers) == (200, LARGE, {b"x-check": b"1"})

        async def break_off(peer: Http2Peer, stream_id: int) -> None:
            peer.h2.send_headers(stream_id, [(":status", "200")])
            peer.h2.send_data(stream_id, b"half")
            peer.h2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
            peer.flush()

        app.serve = break_off
        answer = await client.ask()
        assert (answer.status, answer.body, answer.ended) == (200, b"half", False)
        assert answer.reset is not None

        asked: list[tuple[Http2Peer, int]] = []

        async def never(peer: Http2Peer, stream_id: int) -> None:
            asked.append((peer, stream_id))

        app.serve = never
        stream_id = client.request()
        await eventually(lambda: bool(asked))
        client.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        client.flush()
        peer, stream_id = asked[0]
        await peer.until(lambda: peer.messages[stream_id].reset is not None)
        assert len(app.peers) == 1, "the connections live on"


@with_uvloop
async def test_a_server_of_another_identity_gets_no_request(kinds: tuple[str, str], tmp_path: Path) -> None:
    async with exchanges(kinds, tmp_path, server="spiffe://cluster.local/ns/default/sa/other") as made:
        answer = await made.client.ask()
        assert answer.status == 503
        assert made.app.peers == []


@with_uvloop
async def test_no_request_fails_while_the_second_proxy_drains(kinds: tuple[str, str], tmp_path: Path) -> None:
    async with exchanges(kinds, tmp_path, drain_time_s=60) as made:

        async def ask_often() -> list[int]:
            return [(await made.client.ask()).status for _ in range(20)]

        assert await ask_often() == [200] * 20
        held = asyncio.Event()
        serve = made.app.serve

        async def hold(peer: Http2Peer, stream_id: int) -> None:
            await held.wait()
            await serve(peer, stream_id)

        made.app.serve = hold
        slow = made.client.request()
        await eventually(lambda: made.app.peers[0].messages.get(41) is not None)
        made.app.serve = serve
        drained = await asyncio.to_thread(
            ask, made.second.admin_port, "/drain_listeners?graceful&skip_exit", "POST"
        )
        assert drained.status == 200
        assert await asyncio.gather(*(ask_often() for _ in range(4))) == [[200] * 20] * 4
        held.set()
        assert (await made.client.answer(slow)).status == 200
        stats = await asyncio.to_thread(ask, made.second.admin_port, "/stats?filter=downstream_cx_")
        counted = dict(line.split(": ") for line in stats.body.splitlines() if ".http." in f".{line}")
        assert int(counted["http.http.downstream_cx_total"]) > 1, "GOAWAY has ended the first connection"


def test_grpc_calls_of_every_kind_pass(go_program: Path, kinds: tuple[str, str], tmp_path: Path) -> None:
    """By grpc-go's client and grpcio's server."""
    with serving() as port, hop(kinds, tmp_path, port) as (first, _):
        assert {case: run_case(go_program, first.port, case) for case in CASES} == dict.fromkeys(CASES, "")
