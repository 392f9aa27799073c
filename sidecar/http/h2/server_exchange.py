"""One request and its response on the server's side of an HTTP/2 connection."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from sidecar.errors import (
    DownstreamTimeoutError,
    RequestError,
    StreamIdleTimeoutError,
    UpstreamProtocolError,
    UpstreamResetError,
)
from sidecar.http.body import Body, BodyStream
from sidecar.http.h1.writer import content_length, has_no_body, without_length
from sidecar.http.h2.error_codes import INTERNAL_ERROR, NO_ERROR
from sidecar.http.h2.heads import interim_head, response_head
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.headers import Headers
from sidecar.http.message import Response
from sidecar.http.stream import ServerStream

if TYPE_CHECKING:
    from sidecar.http.h2.server import Http2ServerConnection
    from sidecar.http.h2.stream_worker import Http2StreamWorker


class Http2ServerExchange:
    """A `ResponseEncoder`, and the `BodySource` of the request's body. It ends once: when the response is
    written or cut short, or by `give_up`.

    `worker` serves it. `complete`: the client has sent all of the request. `answered`: the head of the
    response is written.
    `expires_s` and `request_expires_s` are times of the manager's clock, at which `expire` is due.
    """

    __slots__ = (
        "_body_paused",
        "_connection",
        "_idle_timeout_s",
        "_pending_bytes",
        "_unsent_bytes",
        "_withheld_bytes",
        "_writable",
        "answered",
        "body",
        "complete",
        "ended",
        "expires_s",
        "received_bytes",
        "request_expires_s",
        "served",
        "stream",
        "worker",
    )

    def __init__(
        self,
        connection: Http2ServerConnection,
        stream: Http2Stream,
        served: ServerStream,
        body: BodyStream | None,
        idle_timeout_s: float,
    ) -> None:
        self._connection = connection
        self.stream = stream
        self.served = served
        self.body = body
        self.complete = body is None
        self.answered = False
        self.received_bytes = 0
        self.expires_s = served.request.info.start_s + idle_timeout_s
        self.request_expires_s = math.inf
        self._idle_timeout_s = idle_timeout_s
        self.ended = False
        self._body_paused = False
        self._withheld_bytes = 0  # received, but not credited to the client while the body is read slowly
        self._pending_bytes = 0  # of the response, as counted in the statistics
        self._unsent_bytes = 0  # of the response, at the last check of the idle timeout
        self.worker: Http2StreamWorker | None = None
        self._writable: asyncio.Future[None] | None = None  # set while the client is slow to read

    async def serve(self) -> None:
        """Lets the stack handle the request, and writes the response. Cancelled by `give_up`."""
        written = False
        try:
            written = await self.served.serve(self)
            if written and not self.stream.writable:
                await self._flushed()
        finally:
            if not self.ended:
                self._finish(NO_ERROR if written else INTERNAL_ERROR)

    # The request.

    def receive(self, data: bytes, end_stream: bool) -> None:
        size = len(data)
        self.received_bytes += size
        body = self.body
        if body is not None and size:
            body.feed(data)
        if self._body_paused:
            self._withheld_bytes += size
        else:
            self._connection.codec.consumed(self.stream, size)
        self.moved()
        if end_stream:
            self.end_request(None)

    def end_request(self, trailers: Headers | None) -> None:
        self.complete = True
        self.request_expires_s = math.inf
        if self.body is not None:
            self.body.feed_end(trailers)

    # BodySource: called when the request's body is read slowly, or not at all.

    def pause_body(self) -> None:
        self._body_paused = True

    def resume_body(self) -> None:
        self._body_paused = False
        size, self._withheld_bytes = self._withheld_bytes, 0
        if size:
            self._connection.codec.consumed(self.stream, size)
            self._connection.output.flush_soon()

    def abandon_body(self) -> None:
        self.resume_body()

    # The response. ResponseEncoder.

    def inform(self, status: int, headers: Headers) -> None:
        """Sends an interim response (RFC 9110 15.2)."""
        if not self.answered and not self.ended:
            self._connection.codec.send_head(self.stream, interim_head(status, headers), False)
            self._connection.output.flush_soon()

    def send_whole(self, stream: ServerStream, response: Response, body: bytes) -> None:
        status = response.status
        if status == 204:
            response.headers = without_length(response.headers)
        if has_no_body(status) or stream.request.method == b"HEAD":
            body = b""
        elif body:
            stream.sent_bytes = len(body)
            _set_length(response.headers, len(body))
        self.answered = True
        if not self.complete:
            stream.answers_early()
        codec = self._connection.codec
        codec.send_head(self.stream, response_head(response), not body)
        if body:
            codec.send_data(self.stream, body, True)
        self._wrote()

    async def send_streaming(self, stream: ServerStream, response: Response) -> None:
        """Raises the `RequestError` that cut the body short."""
        body = response.body
        try:
            if response.upgraded:
                await self._send_tunnel(stream, response, body)
            elif has_no_body(response.status) or stream.request.method == b"HEAD":
                self.send_whole(stream, response, b"")
            else:
                length = content_length(response.headers)
                self._send_head(response)
                await self._send_body(stream, body, length)
        finally:
            body.close()

    def _send_head(self, response: Response) -> None:
        self.answered = True
        if not self.complete:
            self.served.answers_early()
        self._connection.codec.send_head(self.stream, response_head(response), False)
        self._wrote()

    async def _send_body(self, stream: ServerStream, body: Body, length: int | None) -> None:
        """RFC 9113 8.1.1: raises `UpstreamProtocolError` for a body whose length differs from its head."""
        codec = self._connection.codec
        while data := stream.sending(await body.read()):
            if length is not None and stream.sent_bytes > length:
                break
            codec.send_data(self.stream, data, False)
            self._wrote()
            if not self.stream.writable:
                await self._flushed()
        if length is not None and stream.sent_bytes != length:
            raise UpstreamProtocolError(f"the response body is not as long as its Content-Length {length}")
        trailers = body.trailers
        if trailers:
            codec.send_trailers(self.stream, trailers)
        else:
            codec.send_data(self.stream, b"", True)
        self._wrote()

    async def _send_tunnel(self, stream: ServerStream, response: Response, body: Body) -> None:
        """Returns when both directions have ended. Raises the `RequestError` that cut one of them short, also
        when the upstream accepts no more data."""
        self._send_head(response)
        stream.upgraded()
        try:
            await self._send_body(stream, body, None)
            if not self.complete and self.body is not None:
                await self.body.left()
                if not self.complete:
                    raise UpstreamResetError(
                        "the upstream accepts no more data of the tunnel", request_sent=True
                    )
        finally:
            stream.tunnel_ended()

    # The pace of the client.

    def _wrote(self) -> None:
        self.moved()
        self._connection.output.flush_soon()
        pending_bytes = self.stream.unsent_size
        if pending_bytes != self._pending_bytes:
            self._connection.stats.pending_send_bytes += pending_bytes - self._pending_bytes
            self._pending_bytes = pending_bytes

    async def _flushed(self) -> None:
        """Returns when the client's windows, and the transport, have taken everything."""
        self._writable = asyncio.get_running_loop().create_future()
        await self._writable

    def became_writable(self) -> None:
        self._wrote()
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # Timeouts.

    def moved(self) -> None:
        """Restarts the stream idle timeout."""
        self.expires_s = self._connection.deadlines.now_s() + self._idle_timeout_s

    def limit_idle_time(self, idle_timeout_s: float) -> None:
        """Replaces the configured stream idle timeout; 0 disables it."""
        self._idle_timeout_s = idle_timeout_s or math.inf
        self.moved()
        self._connection.deadlines.watch(self.expires_s)

    def expire(self, now_s: float) -> None:
        """`expires_s` or `request_expires_s` is reached."""
        if self.request_expires_s <= now_s:
            self.request_expires_s = math.inf
            if not self.complete and not self.answered:
                seconds = self._connection.config.request_timeout_s
                self.give_up(DownstreamTimeoutError(f"the request was not complete after {seconds:g} s"))
                return
        if self.expires_s > now_s:
            return
        unsent_bytes = self.stream.unsent_size
        if unsent_bytes != self._unsent_bytes:  # slow, but alive
            self._unsent_bytes = unsent_bytes
            self.moved()
            return
        if unsent_bytes:
            self._connection.stats.tx_flush_timeout += 1
        self.give_up(StreamIdleTimeoutError(f"no data for {self._idle_timeout_s:g} s"))

    # The end.

    def give_up(self, error: RequestError, *, reply: bool = True) -> None:
        """Aborts the exchange. The client gets a reply if no response has begun and `reply` is true."""
        if self.ended:
            return
        response = self.served.abort(error, reply=reply and not self.answered)
        if response is not None:
            self.send_whole(self.served, response, response.body.whole or b"")
        self._finish(NO_ERROR if response is not None else INTERNAL_ERROR)
        if self.body is not None:
            self.body.fail(error)
        if self.worker is not None:
            self.worker.give_up()

    def _finish(self, code: int) -> None:
        """Completes the exchange. As in Envoy, the stream is reset, with `code`, if one of its messages has
        not ended."""
        self.ended = True
        connection, stream = self._connection, self.served
        stream.received_bytes = self.received_bytes
        stream.complete()
        connection.stats.pending_send_bytes -= self._pending_bytes
        self._pending_bytes = 0
        connection.end_exchange(self, code)


def _set_length(headers: Headers, length: int) -> None:
    """The length that the body has: a filter may have changed it."""
    for index, field in enumerate(headers):
        if field[0] == b"content-length":
            headers[index] = (b"content-length", b"%d" % length)
            return
    headers.append((b"content-length", b"%d" % length))
