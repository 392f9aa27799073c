"""Clients of each kind. Each function carries out one connection's worth of exchanges.

As every client does, these send a request again on a new connection when the server closed the old one
without a byte of answer, or said that it does not process it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from tests.soak.outcome import ExchangeError, Outcomes
from tests.support.http2_peer import Http2Peer, Message, http2_client

PATIENCE_S = 60.0
"""Nothing takes that long: what does is stuck."""
KINDS = ("http1", "http2", "grpc-unary", "grpc-stream", "websocket", "tcp")
_LOST = (ConnectionError, asyncio.IncompleteReadError, RuntimeError)


class Client:
    """`now` gives seconds since the start of the soak."""

    def __init__(
        self, ports: dict[str, int], rng: Random, outcomes: Outcomes, now: Callable[[], float]
    ) -> None:
        self._ports = ports
        self._rng = rng
        self._outcomes = outcomes
        self._now = now
        kinds = (self._http1, self._http2, self._grpc_unary, self._grpc_stream, self._websocket, self._tcp)
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = dict(zip(KINDS, kinds, strict=True))

    async def run(self, kind: str, stopping: asyncio.Event) -> None:
        carry_out = self._kinds[kind]
        while not stopping.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await carry_out()
            except TimeoutError:
                self._failed(kind, ExchangeError(f"no end after {PATIENCE_S} s"))
            except OSError as error:
                self._failed(kind, ExchangeError(f"the sidecar refuses: {error!r}"))

    def _failed(self, kind: str, error: ExchangeError) -> None:
        self._outcomes.add_failure(kind, self._now(), error)

    def _body(self, most: int = 20_000) -> bytes:
        return self._rng.randbytes(self._rng.choice((0, 10, 1000, most)))

    # HTTP/1.1.

    async def _http1(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports["http"])
        try:
            for number in range(self._rng.randrange(1, 20)):
                try:
                    open_ = await self._http1_exchange(reader, writer, self._body(), reused=number > 0)
                except ExchangeError as error:
                    self._failed("http1", error)
                    return
                except _ClosedIdleError:
                    self._outcomes.reconnected["http1"] += 1
                    return
                self._outcomes.succeeded["http1"] += 1
                if not open_:
                    return
        finally:
            writer.close()

    async def _http1_exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, *, reused: bool
    ) -> bool:
        """Returns whether the connection stays."""
        framing = b"content-length: %d\r\n\r\n%b" % (len(body), body)
        if body and self._rng.random() < 0.3:
            framing = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        try:
            writer.write(b"POST /web HTTP/1.1\r\nhost: soak\r\n" + framing)
            head = await reader.readuntil(b"\r\n\r\n")
        except _LOST as error:
            if reused and not getattr(error, "partial", b""):
                raise _ClosedIdleError from error
            raise ExchangeError(f"closed without a response: {error!r}") from error
        status, fields = _parsed(head)
        host = fields.get("x-host", "")
        try:
            size = int(fields.get("content-length", "0"))
            answer = await (_chunks(reader) if "transfer-encoding" in fields else reader.readexactly(size))
        except _LOST as error:
            raise ExchangeError(f"the body was cut off: {error!r}", host) from error
        if status != 200:
            raise ExchangeError(f"status {status}: {answer[:200]!r}")
        if answer != body:
            raise ExchangeError(f"another body: {_digest(answer)} for {_digest(body)}")
        return fields.get("connection", "") != "close"

    # HTTP/2 and gRPC: several streams at a time.

    async def _http2(self) -> None:
        await self._on_one_connection("http2", "/web", grpc=False, streaming=False)

    async def _grpc_unary(self) -> None:
        await self._on_one_connection("grpc-unary", "/soak.Soak/Unary", grpc=True, streaming=False)

    async def _grpc_stream(self) -> None:
        await self._on_one_connection("grpc-stream", "/soak.Soak/Stream", grpc=True, streaming=True)

    async def _on_one_connection(self, kind: str, path: str, *, grpc: bool, streaming: bool) -> None:
        async with await http2_client(self._ports["http"]) as peer:
            for _ in range(self._rng.randrange(1, 6)):
                exchanges = [
                    self._counted(kind, peer, self._stream(peer, path, grpc=grpc, streaming=streaming))
                    for _ in range(self._rng.randrange(1, 8))
                ]
                await asyncio.gather(*exchanges)
                if peer.goaways or peer.lost:
                    return

    async def _counted(self, kind: str, peer: Http2Peer, exchange: Awaitable[None]) -> None:
        try:
            await exchange
        except ExchangeError as error:
            self._failed(kind, error)
        except _ClosedIdleError:
            self._outcomes.reconnected[kind] += 1
        else:
            self._outcomes.succeeded[kind] += 1

    async def _stream(self, peer: Http2Peer, path: str, *, grpc: bool, streaming: bool) -> None:
        fields = [("content-type", "application/grpc"), ("te", "trailers")] if grpc else []
        stream_id = peer.request("POST", path, *fields, end=False)
        message, sent = peer.messages[stream_id], b""
        for _ in range(self._rng.randrange(1, 10) if streaming else 1):
            piece = _framed(self._body(5000)) if grpc else self._body()
            sent += piece
            if peer.lost or message.reset is not None or message.ended:
                break
            await peer.send_body(stream_id, piece, end=False)
            if streaming:
                await peer.until(partial(_has, peer, message, len(sent)))
        if not (peer.lost or message.reset is not None or message.ended):
            peer.h2.end_stream(stream_id)
            peer.flush()
        _check_message(peer, stream_id, await peer.answer(stream_id), sent, grpc=grpc)

    # WebSocket: the proxies do not look at the frames.

    async def _websocket(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports["http"])
        try:
            writer.write(
                b"GET /socket HTTP/1.1\r\nhost: soak\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            )
            try:
                status, fields = _parsed(await reader.readuntil(b"\r\n\r\n"))
            except _LOST as error:
                raise ExchangeError(f"closed without a response: {error!r}") from error
            if status != 101:
                raise ExchangeError(f"status {status}: {await reader.read(200)!r}")
            await self._echoed(reader, writer, fields.get("x-host", ""), half_close=False)
            self._outcomes.succeeded["websocket"] += 1
        except ExchangeError as error:
            self._failed("websocket", error)
        finally:
            writer.close()

    # TCP: the server speaks first.

    async def _tcp(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._ports["tcp"])
        try:
            try:
                greeting = await reader.readuntil(b"\n")
            except _LOST as error:
                raise ExchangeError(f"closed without a greeting: {error!r}") from error
            await self._echoed(reader, writer, greeting.strip().decode(), half_close=True)
            self._outcomes.succeeded["tcp"] += 1
        except ExchangeError as error:
            self._failed("tcp", error)
        finally:
            writer.close()

    async def _echoed(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, *, half_close: bool
    ) -> None:
        try:
            for _ in range(self._rng.randrange(1, 10)):
                sent = self._body() or b"x"
                writer.write(sent)
                received = await reader.readexactly(len(sent))
                if received != sent:
                    raise ExchangeError(f"another echo: {_digest(received)} for {_digest(sent)}")
                await asyncio.sleep(self._rng.choice((0, 0.01, 0.1)))
            if half_close:
                writer.write(b"the last bytes")
                writer.write_eof()
                rest = await reader.read()
                if rest != b"the last bytes":
                    raise ExchangeError(f"after the client's end: {rest!r}", host)
        except _LOST as error:
            raise ExchangeError(f"cut off: {error!r}", host) from error


class _ClosedIdleError(Exception):
    """The server certainly has not processed the request."""


def _has(peer: Http2Peer, message: Message, size: int) -> bool:
    """Whether it has so many bytes, or gets no more."""
    return len(message.received) >= size or peer.lost or message.reset is not None or message.ended


def _check_message(peer: Http2Peer, stream_id: int, message: Message, sent: bytes, *, grpc: bool) -> None:
    host = message.headers.get(b"x-host", b"").decode()
    unprocessed = any(stream_id > last for last, _ in peer.goaways)
    if not message.headers and (unprocessed or message.reset == 7):  # REFUSED_STREAM
        raise _ClosedIdleError
    if not message.ended:
        how = "the connection was lost" if message.reset is None else f"reset with {message.reset}"
        raise ExchangeError(how, host)
    if message.status != 200:
        raise ExchangeError(f"status {message.status}: {message.body[:200]!r}")
    status = (message.trailers or message.headers).get(b"grpc-status")
    if grpc and status != b"0":
        text = (message.trailers or message.headers).get(b"grpc-message", b"")
        raise ExchangeError(f"grpc-status {status!r}: {text!r}", host if message.trailers else "")
    if message.body != sent:
        raise ExchangeError(f"another body: {_digest(message.body)} for {_digest(sent)}")


def _framed(payload: bytes) -> bytes:
    """One gRPC message."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    fields = (text.partition(":") for text in lines)
    return int(line.split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readuntil(b"\n")).strip():
        pass  # trailers
    return body


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes ({hashlib.sha256(data).hexdigest()[:8]})"
