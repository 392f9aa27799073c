"""One request and its response on the client's side of an HTTP/2 connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.errors import InternalError, RequestError
from sidecar.http.body import EMPTY, Body, BodyStream
from sidecar.http.h1.writer import content_length
from sidecar.http.h2.error_codes import CANCEL, NO_ERROR
from sidecar.http.h2.events import HeadReceived
from sidecar.http.h2.heads import open_tunnel, request_head
from sidecar.http.h2.output import BODY_BYTES
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.headers import Headers
from sidecar.http.message import Request, Response

if TYPE_CHECKING:
    from sidecar.http.h2.client import Http2ClientConnection


class Http2ClientExchange:
    """The `BodySource` of the response's body. It ends once: with both messages, or by `fail` or `cancel`.

    `response` gets the head; `stream` is None while the request waits for the peer's limit of streams.
    """

    __slots__ = (
        "_body",
        "_body_paused",
        "_connection",
        "_ended",
        "_pending_bytes",
        "_pump",
        "_request",
        "_request_ended",
        "_withheld_bytes",
        "_writable",
        "response",
        "stream",
    )

    def __init__(
        self, connection: Http2ClientConnection, request: Request, response: asyncio.Future[Response]
    ) -> None:
        self._connection = connection
        self._request = request
        self.response = response
        self.stream: Http2Stream | None = None
        self._request_ended = False
        self._ended = False
        self._body: BodyStream | None = None  # of the response
        self._body_paused = False
        self._withheld_bytes = 0  # received, but not credited to the upstream while the body is read slowly
        self._pending_bytes = 0  # of the request, as counted in the statistics
        self._pump: asyncio.Task[None] | None = None  # sends the request's body
        self._writable: asyncio.Future[None] | None = None  # set while the upstream is slow to read

    # The request.

    def send(self, stream: Http2Stream) -> None:
        self.stream = stream
        request, codec = self._request, self._connection.codec
        body, upgrade = request.body, request.upgrade
        head = request_head(request)
        if upgrade is not None:  # the tunnel's bytes wait for the response
            stream.tunnel = True
            codec.send_head(stream, head, False)
            return
        whole = body.whole
        if whole is None:
            codec.send_head(stream, head, False)
            self._start_pump(content_length(request.headers))
            return
        # gRPC: only a DATA frame may end a call's request; grpc-go waits for it.
        ends = not whole and request.info.grpc is None
        codec.send_head(stream, head, ends)
        if not ends:
            codec.send_data(stream, whole, True)
            self._note_pending()
        self._request_ended = True

    def _start_pump(self, length: int | None) -> None:
        self._pump = asyncio.get_running_loop().create_task(self._send_body(length), name="http2-request")

    async def _send_body(self, length: int | None) -> None:
        body, codec, stream = self._request.body, self._connection.codec, self.stream
        assert stream is not None
        sent = 0
        try:
            while data := await body.read():
                if self._ended:
                    raise asyncio.CancelledError("the body has ignored its cancellation")
                sent += len(data)
                codec.send_data(stream, data, False)
                self._connection.output.flush_soon()
                if not stream.writable:
                    await self._flushed()
            if length is not None and sent != length:
                raise InternalError(f"the request body is not as long as its Content-Length {length}")
            trailers = body.trailers
            if trailers:
                codec.send_trailers(stream, trailers)
            else:
                codec.send_data(stream, b"", True)
            self._connection.output.flush_soon()
            self._pump = None
            self._request_ended = True
            if stream.closed:
                self._end()
        except RequestError as error:
            self._pump = None
            self.fail(error, CANCEL)
        finally:
            body.close()

    async def _flushed(self) -> None:
        """Returns when the upstream's windows, and the transport, have taken everything."""
        self._note_pending()
        self._writable = asyncio.get_running_loop().create_future()
        await self._writable

    def became_writable(self) -> None:
        self._note_pending()
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _note_pending(self) -> None:
        assert self.stream is not None
        pending_bytes = self.stream.unsent_size
        self._connection.stats.pending_send_bytes += pending_bytes - self._pending_bytes
        self._pending_bytes = pending_bytes

    # The response.

    def inform(self, status: int, headers: Headers) -> None:
        self._request.inform_client(status, headers)

    def receive_head(self, head: HeadReceived, whole: bytes | None) -> None:
        """`whole` is the body, if all of it has arrived."""
        body: Body
        if head.end_stream:
            body = EMPTY
        elif whole is not None:
            body = Body(whole)
        else:
            body = self._body = BodyStream(self, high_water=BODY_BYTES)
        response = Response(head.status, head.headers, body)
        if self._request.upgrade is not None and 200 <= head.status < 300 and not head.end_stream:
            open_tunnel(response, self._request)
            self._start_pump(None)
        if not self.response.done():
            self.response.set_result(response)
        elif self._body is not None:
            self._body.close()
        if body.whole is not None:
            self.end_response(None)

    def receive(self, data: bytes, end_stream: bool) -> None:
        size, body, stream = len(data), self._body, self.stream
        assert stream is not None
        if body is not None and size:
            body.feed(data)
        if self._body_paused:
            self._withheld_bytes += size
        else:
            self._connection.codec.consumed(stream, size)
        if end_stream:
            self.end_response(None)

    def end_response(self, trailers: Headers | None) -> None:
        """As in Envoy, a response that is complete before its request ends the exchange. CANCEL says that the
        rest of the request will not come (RFC 9113 7)."""
        if self._body is not None:
            self._body.feed_end(trailers)
        if not self._ended and not (self._pump is not None and self._is_tunnel()):
            self._end(CANCEL)

    def _is_tunnel(self) -> bool:
        return self._request.upgrade is not None

    # BodySource: called when the response's body is read slowly, or not at all.

    def pause_body(self) -> None:
        self._body_paused = True

    def resume_body(self) -> None:
        self._body_paused = False
        size, self._withheld_bytes = self._withheld_bytes, 0
        if size and self.stream is not None:
            self._connection.codec.consumed(self.stream, size)
            self._connection.output.flush_soon()

    def abandon_body(self) -> None:
        self.cancel()

    # The end.

    def cancel(self) -> None:
        """The response is not wanted any more."""
        if not self._ended:
            self._end(CANCEL)

    def fail(self, error: RequestError, code: int = CANCEL) -> None:
        """The exchange ends with `error`."""
        if self._ended:
            return
        response, body = self.response, self._body
        self._end(code)
        if not response.done():
            response.set_exception(error)
        if body is not None:
            body.fail(error)

    def _end(self, code: int = NO_ERROR) -> None:
        """`code` resets the stream if one of its messages has not ended."""
        self._ended = True
        pump, self._pump = self._pump, None
        if pump is not None and pump is not asyncio.current_task():
            pump.cancel()
        self._connection.stats.pending_send_bytes -= self._pending_bytes
        self._pending_bytes = 0
        self._connection.end_exchange(self, code)
