"""Writes responses: whole, in pieces, or as a tunnel."""

from __future__ import annotations

from sidecar.errors import UpstreamProtocolError, UpstreamResetError
from sidecar.http.body import Body, BodyTaker
from sidecar.http.h1.connection_state import HEAD_WRITTEN, RESPONSE_WRITTEN, TRANSITIONS, ConnectionState
from sidecar.http.h1.outlet import Outlet
from sidecar.http.h1.request_queue import RequestQueue
from sidecar.http.h1.request_reader import IncomingRequest
from sidecar.http.h1.writer import (
    CHUNKED,
    CLOSE,
    chunk,
    content_length,
    has_no_body,
    last_chunk,
    response_head,
    whole_response,
    without_length,
)
from sidecar.http.headers import Headers
from sidecar.http.message import Response
from sidecar.http.stream import ServerStream

_KEEP_ALIVE = b"connection: keep-alive"
_UPGRADE = b"connection: upgrade"


class ResponseWriter:
    """Writes the responses of one connection (a `ResponseEncoder`), each to the request `incoming`. Each head
    tells the client whether the connection stays open; `IncomingRequest.keep_alive` records it."""

    __slots__ = ("_outlet", "_queue", "_state", "incoming")

    def __init__(self, outlet: Outlet, queue: RequestQueue, state: ConnectionState) -> None:
        self.incoming = IncomingRequest(b"", [], False)
        self._outlet = outlet
        self._queue = queue
        self._state = state

    def inform(self, status: int, headers: Headers) -> None:
        """Writes an interim response (RFC 9110 15.2), except 101, which ends the exchange."""
        self._outlet.write(response_head(status, headers))

    def send_last(self, stream: ServerStream, response: Response) -> None:
        """Writes the reply to a refused or aborted request, which is the last one of the connection."""
        body = response.body.whole or b""
        stream.sent_bytes = len(body)
        if stream.request.method == b"HEAD":
            body = b""
        self._outlet.write(response_head(response.status, response.headers, (CLOSE,)) + body)

    def send_whole(self, stream: ServerStream, response: Response, body: bytes) -> None:
        incoming = self.incoming
        option = self._connection_option(stream)
        state = self._state
        state.now = TRANSITIONS[state.now][RESPONSE_WRITTEN]
        if has_no_body(response.status):
            headers = without_length(response.headers) if response.status == 204 else response.headers
            self._outlet.write(response_head(response.status, headers, (option,)))
        elif incoming.method == b"HEAD":
            in_chunks = content_length(response.headers) is None and not incoming.http10
            framing = CHUNKED if in_chunks else b""  # RFC 9110 9.3.2: like the response to GET
            self._outlet.write(response_head(response.status, response.headers, (option, framing)))
        else:
            stream.sent_bytes = len(body)
            self._outlet.write(whole_response(response.status, response.headers, body, option))

    async def send_streaming(self, stream: ServerStream, response: Response) -> None:
        """Raises the `RequestError` that cut the body short."""
        body = response.body
        try:
            if response.upgraded:
                await self._send_tunnel(stream, response, body)
            elif self.incoming.method == b"HEAD" or has_no_body(response.status):
                self.send_whole(stream, response, b"")
                return
            else:
                await self._send_body(stream, response, body)
            self._state.move(RESPONSE_WRITTEN)
        finally:
            body.close()

    async def _send_body(self, stream: ServerStream, response: Response, body: Body) -> None:
        """Frames the body by the length in the head, or else in chunks; in HTTP/1.0, by the EOF."""
        incoming = self.incoming
        length = content_length(response.headers)
        in_chunks = length is None and not incoming.http10
        if length is None and incoming.http10:
            incoming.keep_alive = False
        options = (self._connection_option(stream), CHUNKED if in_chunks else b"")
        self._write_head(response_head(response.status, response.headers, options))
        if length is not None:
            await self._send_sized(stream, body, length)
        elif in_chunks:
            await self._send_chunked(stream, body)
        else:
            await self._send_raw(stream, body)

    def _write_head(self, head: bytes) -> None:
        self._outlet.write(head)
        self._state.move(HEAD_WRITTEN)

    async def _send_sized(self, stream: ServerStream, body: Body, length: int) -> None:
        """RFC 9112 8: raises `UpstreamProtocolError` for a body whose length differs from its head: the
        client would take its bytes for the next response, or the next response for its bytes."""
        while data := stream.sending(await body.read()):
            if stream.sent_bytes > length:
                break
            self._outlet.write(data)
            await self._outlet.moved()
        if stream.sent_bytes != length:
            raise UpstreamProtocolError(f"the response body is not as long as its Content-Length {length}")

    async def _send_chunked(self, stream: ServerStream, body: Body) -> None:
        while data := stream.sending(await body.read()):
            self._outlet.write(chunk(data))
            await self._outlet.moved()
        self._outlet.write(last_chunk(body.trailers))

    async def _send_raw(self, stream: ServerStream, body: Body) -> None:
        """Writes the body without framing, in HTTP/1.0 and in a tunnel."""
        while data := stream.sending(await body.read()):
            self._outlet.write(data)
            await self._outlet.moved()

    async def _send_tunnel(self, stream: ServerStream, response: Response, body: Body) -> None:
        """Returns when both directions have ended. Raises the `RequestError` that cut one of them short, also
        when the upstream accepts no more data."""
        upgrade = self.incoming.upgrade
        options = (_UPGRADE, b"upgrade: %b" % upgrade) if upgrade and response.status == 101 else ()
        self._write_head(response_head(response.status, without_length(response.headers), options))
        stream.answers_early()
        stream.upgraded()
        body.give_at_once(_TunnelOutlet(stream, self._outlet))
        try:
            await self._send_raw(stream, body)
            await self._await_client()
        finally:
            stream.tunnel_ended()

    async def _await_client(self) -> None:
        """Waits for the client's direction of a tunnel, after the upstream has ended its own."""
        incoming = self.incoming
        if incoming.complete or not self._outlet.end():
            return
        assert incoming.stream is not None
        await incoming.stream.left()
        if not incoming.complete:
            raise UpstreamResetError("the upstream accepts no more data of the tunnel", request_sent=True)

    def _connection_option(self, stream: ServerStream) -> bytes:
        incoming = self.incoming
        if incoming.keep_alive and not stream.keeps_connection(more_wait=bool(self._queue.waiting)):
            incoming.keep_alive = False
        if not incoming.complete:
            stream.answers_early()
        elif incoming.keep_alive:
            return _KEEP_ALIVE if incoming.http10 else b""
        incoming.keep_alive = False  # as the head tells the client
        return CLOSE


class _TunnelOutlet(BodyTaker):
    """Writes what arrives from the upstream of a tunnel, while the client keeps up."""

    __slots__ = ("_outlet", "_stream")

    def __init__(self, stream: ServerStream, outlet: Outlet) -> None:
        self._stream = stream
        self._outlet = outlet

    def take(self, data: bytes) -> bool:
        outlet, stream = self._outlet, self._stream
        if outlet.writable is not None or stream.aborted:
            return False
        outlet.write(stream.sending(data))
        outlet.restart_idle_timeout()
        return True
