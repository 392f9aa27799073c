"""Bytes in, responses out: the client's half of HTTP/1.1 parsing, without I/O. As in `request_reader`,
llhttp reads all but the chunks of a body."""

from __future__ import annotations

import httptools

from sidecar.errors import UpstreamProtocolError
from sidecar.http.body import EMPTY, Body, BodySource, BodyStream
from sidecar.http.h1.chunks import ChunkDecoder, end_of_head
from sidecar.http.h1.rules import printable
from sidecar.http.h1.writer import has_no_body, response_head, without_length
from sidecar.http.headers import HOP_BY_HOP, Headers


class IncomingResponse:
    """A response as its bytes said it. `tunnel`: a 101, or CONNECT's 2xx; the body is what follows it."""

    __slots__ = ("body", "chunked", "complete", "headers", "keep_alive", "status", "stream", "tunnel")

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: Headers = []
        self.body: Body = EMPTY
        self.stream: BodyStream | None = None  # the body, if it was not complete together with its head
        self.keep_alive = True
        self.chunked = False
        self.complete = False
        self.tunnel = False


class ResponseReader:
    """`expect` a response, then `feed` what was read: it returns the response once, when its head is
    complete, with its body: whole if it was complete too, else a `BodyStream` that later bytes go to.

    It never raises: `error` is what the upstream did wrong, of which bytes that nobody asked for are one
    kind: they must not pass for the next response.
    """

    def __init__(
        self, source: BodySource, *, max_headers_bytes: int = 80 * 1024, max_headers_count: int = 100
    ) -> None:
        self.error: UpstreamProtocolError | None = None
        self.interim: list[tuple[int, Headers]] = []
        self._interim_bytes = 0  # of all that came before one response
        self._source = source
        self._max_headers_bytes = max_headers_bytes
        self._max_headers_count = max_headers_count
        self._parser = httptools.HttpResponseParser(self)
        self._response: IncomingResponse | None = None
        self._returned = False
        self._awaited = False  # whether a response is, or the rest of one
        self._request_method = b""
        self._upgrade: bytes | None = None
        self._fields: Headers = []  # of the head, and then of the trailers
        self._special: Headers = []  # of the head: what is meant for this hop
        self._chunks: list[bytes] = []
        self._chunk_decoder: ChunkDecoder | None = None  # while it reads, and not llhttp
        self._replaying = False
        self._tail = b""  # of what was fed of a head that is pending
        self._head_pending = False
        self._head_bytes = 0
        self._measure = False
        self._body_moved = False  # by what was fed last
        self._bodiless_bytes = 0  # fed since any of the body came: trailers, and extensions of chunks
        self._until_close = False

    def expect(self, method: bytes, upgrade: bytes | None) -> None:
        self._request_method = method
        self._upgrade = upgrade
        self._awaited = True
        self._response = None
        self._returned = False
        self._interim_bytes = 0

    def feed(self, data: bytes) -> IncomingResponse | None:
        response = self._response
        if response is not None and response.tunnel and response.stream is not None:
            response.stream.feed(data)
            return None
        if self._head_pending:
            self._head_bytes += len(data)
            self._measure = True
        else:
            self._measure = len(data) > self._max_headers_bytes
        self._body_moved = False
        rest = self._read_messages(data) if self._chunk_decoder is None else data
        while rest:  # chunks, and what may follow them
            rest = self._read_messages(rest) if self._chunk_decoder is None else self._read_chunks(rest)
        if self._head_pending:
            self._tail = (self._tail + data[-3:])[-3:]
            if self._head_bytes > self._max_headers_bytes:
                self._refuse(f"a response head of more than {self._max_headers_bytes} bytes")
        response = self._response
        if response is not None and not response.complete:
            self._await_body(len(data))
        return self._return()

    def _read_messages(self, data: bytes) -> bytes:
        """By llhttp. Returns what is left to read."""
        first, interim_before, head_pending = self._response, len(self.interim), self._head_pending
        failure = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._open_tunnel(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            failure = error
        response = self._response
        if response is not first and response is not None and response.chunked and not response.complete:
            # Chunks began. No callback says where it was called: the heads before them are counted.
            text = self._tail + data if head_pending else data
            at = 0
            try:
                for _ in range(len(self.interim) - interim_before + 1):
                    at = end_of_head(text, at, begun=head_pending)
                    head_pending = False
            except ValueError:
                self._refuse("malformed HTTP/1.1: it is not certain where a head ends")
                return b""
            return self._begin_chunks(text[at:], failure)
        if failure is not None:
            self._fail(failure)
        return b""

    def _begin_chunks(self, chunks: bytes, failure: httptools.HttpParserError | None) -> bytes:
        """llhttp has read `chunks`, up to a `failure` of its own if there was one: then they are read anew.
        Returns what is left to read."""
        decoder = ChunkDecoder(UpstreamProtocolError)
        if failure is None:
            try:
                decoder.feed(chunks, [])
            except UpstreamProtocolError as error:
                self.error = error
            self._chunk_decoder = None if decoder.ended else decoder
            return b""
        if isinstance(failure, httptools.HttpParserCallbackError):
            self._fail(failure)
            return b""
        self._chunks = []
        self._fields = []
        self._chunk_decoder = decoder
        return chunks

    def _read_chunks(self, data: bytes) -> bytes:
        """Returns what follows the last chunk."""
        decoder = self._chunk_decoder
        assert decoder is not None
        pieces: list[bytes] = []
        try:
            at = decoder.feed(data, pieces)
        except UpstreamProtocolError as error:
            self.error = error
            return b""
        if pieces:  # in one: a small one costs much more memory than its bytes
            self.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if not decoder.ended:
            return b""
        self._chunk_decoder = None
        self._parser = httptools.HttpResponseParser(self)
        if data[at : at + 2] == b"\r\n":
            self.on_message_complete()
            return data[at + 2 :]
        self._replaying = True  # a fresh llhttp is told where in the response it is
        self._parser.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        self._replaying = False
        return data[at:]

    def feed_eof(self) -> bool:
        """The upstream has closed its direction. Whether that is how the message ends (RFC 9112 6.3)."""
        response = self._response
        if response is None or response.complete or not (response.tunnel or self._until_close):
            return False
        self._complete(response)
        return True

    # What httptools calls.

    def on_message_begin(self) -> None:
        if not self._awaited:
            raise UpstreamProtocolError("bytes that no request asked for")
        if self._replaying:
            return
        self._head_pending = True
        self._head_bytes = 0
        self._fields = []
        self._special = []

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        fields = self._special if name in HOP_BY_HOP else self._fields
        if len(fields) >= self._max_headers_count:  # a small field costs much more memory than its bytes
            raise UpstreamProtocolError(f"more than {self._max_headers_count} response headers")
        fields.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        if self._replaying:
            self._fields = []
            self._special = []
            return
        self._check_size()
        self._head_pending = False
        parser = self._parser
        status = parser.get_status_code()
        if status < 100:
            raise UpstreamProtocolError(f"a response of status {status}")
        if status < 200 and status != 101:
            return
        response = self._response = IncomingResponse(status)
        self._chunks = []
        response.headers = self._fields
        response.keep_alive = parser.should_keep_alive()
        self._until_close = False
        if self._special:
            self._read_special(response)
        if status == 101:
            self._check_switch(response)
        elif self._request_method == b"CONNECT" and status < 300:
            response.tunnel = True  # RFC 9110 9.3.6; llhttp reads what follows as a body without end
            if self._is_framed():
                raise UpstreamProtocolError("a tunnel whose head says how long its body is")
        elif self._request_method == b"HEAD":
            # RFC 9112 6.3: no body follows, whatever the head says; llhttp does not know, and starts anew.
            self._parser = httptools.HttpResponseParser(self)
            self._complete(response)
        elif not response.keep_alive:
            self._until_close = not has_no_body(status) and not self._is_framed()
        self._fields = []  # trailers, from here on

    def on_body(self, data: bytes) -> None:
        response = self._response
        if response is None or response.complete:
            raise UpstreamProtocolError("bytes that no request asked for")
        self._body_moved = True
        if self._returned:
            assert response.stream is not None
            response.stream.feed(data)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        response = self._response
        if response is None:
            self._add_interim(self._parser.get_status_code())
        elif not response.tunnel and not response.complete:
            if self._fields:
                self._check_size()
            self._complete(response)

    # Less usual.

    def _add_interim(self, status: int) -> None:
        """Together they are bounded as one head is: nothing holds them back for a client that is slow."""
        headers = without_length(self._fields)  # RFC 9110 8.6
        self._interim_bytes += len(response_head(status, headers))
        if self._interim_bytes > self._max_headers_bytes:
            raise UpstreamProtocolError(f"more than {self._max_headers_bytes} bytes of interim responses")
        self.interim.append((status, headers))

    def _await_body(self, fed_bytes: int) -> None:
        """More of the body is to come. What comes beside it is bounded as a head is."""
        if self._body_moved or not self._returned:
            self._bodiless_bytes = 0
            return
        self._bodiless_bytes += fed_bytes
        if self._bodiless_bytes > self._max_headers_bytes:
            self._refuse(f"more than {self._max_headers_bytes} bytes of trailers or chunk extensions")

    def _complete(self, response: IncomingResponse) -> None:
        response.complete = True
        self._awaited = False
        if self._returned:
            assert response.stream is not None
            response.stream.feed_end(self._fields)

    def _return(self) -> IncomingResponse | None:
        response = self._response
        if response is None or self._returned or self._head_pending:
            return None
        if self.error is not None and not response.complete:
            return None
        self._returned = True
        if response.complete and not self._fields:  # no trailers
            chunks = self._chunks
            if chunks:
                response.body = Body(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            return response
        body = response.body = response.stream = BodyStream(self._source)
        if self._chunks:
            body.feed(b"".join(self._chunks))
        if response.complete:
            body.feed_end(self._fields)
        return response

    def _read_special(self, response: IncomingResponse) -> None:
        codings = [value for name, value in self._special if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            # RFC 9112 6.1: a coding that is not understood hides where the body ends.
            raise UpstreamProtocolError(f"Transfer-Encoding {printable(codings[0])} in a response")
        if codings and self._parser.get_http_version() != "1.1":
            raise UpstreamProtocolError("Transfer-Encoding in a response of HTTP/1.0")
        response.chunked = bool(codings) and not has_no_body(response.status)
        named = {
            token.strip().lower()
            for name, value in self._special
            if name == b"connection"
            for token in value.split(b",")
        } - {b"content-length"}
        response.headers = self._fields = [field for field in self._fields if field[0] not in named]

    def _is_framed(self) -> bool:
        return any(name == b"content-length" for name, _ in self._fields) or any(
            name == b"transfer-encoding" for name, _ in self._special
        )

    def _check_switch(self, response: IncomingResponse) -> None:
        """RFC 9110 15.2.2: to what was asked for, or not at all."""
        chosen = [value.lower() for name, value in self._special if name == b"upgrade"]
        if self._upgrade is None or chosen != [self._upgrade]:
            raise UpstreamProtocolError("a 101 that switches to no protocol that was asked for")
        response.tunnel = True

    def _open_tunnel(self, rest: bytes) -> None:
        response = self._response
        if response is None or not response.tunnel:
            self._refuse("the upstream left HTTP without being asked to")
        elif rest:
            self._chunks.append(rest)

    def _check_size(self) -> None:
        count = len(self._fields) + len(self._special)
        if count > self._max_headers_count:
            raise UpstreamProtocolError(f"{count} response headers, more than {self._max_headers_count}")
        if self._measure:
            size = sum(len(name) + len(value) for name, value in (*self._fields, *self._special))
            if size > self._max_headers_bytes:
                raise UpstreamProtocolError(
                    f"response headers of {size} bytes, more than {self._max_headers_bytes}"
                )

    def _fail(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, UpstreamProtocolError):  # raised by a callback above
            self.error = cause
        elif isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause  # a fault of ours, not of the upstream
        else:
            self._refuse(f"malformed HTTP/1.1: {error}")

    def _refuse(self, fault: str) -> None:
        """The first fault is the one that is told."""
        if self.error is None:
            self.error = UpstreamProtocolError(fault)
