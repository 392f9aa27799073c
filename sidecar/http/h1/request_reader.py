"""Bytes in, requests out: the server's half of HTTP/1.1 parsing, without I/O.

llhttp (by httptools) splits the bytes; the rules it does not know are `rules`, the chunks of a body are
for `chunks`. The callbacks below run for each header of each request: they are the hottest code of the
sidecar.
"""

from __future__ import annotations

import httptools

from sidecar.errors import DownstreamError, DownstreamProtocolError, HeadersTooLargeError
from sidecar.http.body import EMPTY, Body, BodySource, BodyStream
from sidecar.http.h1.chunks import ChunkDecoder, end_of_chunks, end_of_head
from sidecar.http.h1.rules import (
    check_expect,
    check_transfer_encoding,
    check_version,
    named_by_connection,
    resolve_target,
)
from sidecar.http.headers import HOP_BY_HOP, Headers

_SPECIAL = HOP_BY_HOP | {b"host", b"expect", b"te"}

# What the connection manager vouches for in a head must not come in past it, behind the body.
_MANAGED_PREFIXES = (b"x-envoy-", b"x-forwarded-")

# Of one `feed`: small requests cost much more memory than their bytes, and few of them are soon served.
MAX_REQUESTS_AT_ONCE = 16

# The HTTP/2 upgrade is an offer that RFC 9113 3.1 withdrew: Envoy does not take it up either.
_DECLINED_UPGRADES = frozenset((b"h2c",))


class IncomingRequest:
    """A request as its bytes said it. `complete` once its body has ended; a tunnel's ends with the tunnel."""

    __slots__ = (
        "authority",
        "body",
        "chunked",
        "complete",
        "expects_continue",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "path",
        "received_bytes",
        "stream",
        "upgrade",
    )

    def __init__(self, method: bytes, headers: Headers, keep_alive: bool) -> None:
        self.method = method
        self.authority = b""
        self.path = b""
        self.headers = headers
        self.body: Body = EMPTY
        self.stream: BodyStream | None = None  # the body, if it was not complete together with its head
        self.upgrade: bytes | None = None
        self.http10 = False
        self.keep_alive = keep_alive
        self.chunked = False
        self.expects_continue = False
        self.complete = False
        self.received_bytes = 0


class _EnoughError(Exception):
    """Raised by a callback of llhttp's: what follows is left unread."""


class RequestReader:
    """Feed it what was read; it returns the requests whose head became complete, each with its body:
    whole if it was complete too, else a `BodyStream` that later bytes go to. What it has left `unread`, as so
    many requests were complete before, is to be fed next.

    It never raises: `error` is what the client did wrong, after the requests already returned; no request
    follows it, nor one that said ``Connection: close``.
    """

    def __init__(
        self,
        source: BodySource,
        *,
        max_headers_bytes: int = 60 * 1024,
        max_headers_count: int = 100,
        allow_absolute_url: bool = True,
    ) -> None:
        self.error: DownstreamError | None = None
        self.head_pending = False
        self.unread = b""
        self._source = source
        self._max_headers_bytes = max_headers_bytes
        self._max_headers_count = max_headers_count
        self._allow_absolute_url = allow_absolute_url
        self._parser = httptools.HttpRequestParser(self)
        self._request = IncomingRequest(b"", [], False)
        self._request.complete = True
        self._returned = True  # whether `_request` was, or there is none
        self._arrived: list[IncomingRequest] = []
        self._target = b""
        self._fields: Headers = []  # of the head, and then of the trailers
        self._special: Headers = []  # of the head: what is meant for this hop
        self._chunks: list[bytes] = []
        self._body_bytes = 0  # of `_request`, before what was fed last
        self._bodiless_bytes = 0  # fed since any of its body came: trailers, and extensions of chunks
        self._chunk_decoder: ChunkDecoder | None = None  # while it reads, and not llhttp
        self._trailing = False  # whether llhttp reads what follows the last chunk
        self._tail = b""  # of what llhttp was fed of a head that is pending, or of trailers
        self._head_bytes = 0  # of a head that is pending: fed after the read that it began in
        self._measure = False  # whether a head that becomes complete now could be too large
        self._tunnel: BodyStream | None = None
        self._skip_body = False  # llhttp ends a message that asks for an upgrade at its head
        self._replaying = False
        self._last = False

    def feed(self, data: bytes | memoryview) -> list[IncomingRequest]:
        if self._tunnel is not None:
            self._request.received_bytes += len(data)
            self._tunnel.feed(bytes(data))
            return []
        self.unread = b""
        if self._last or self._failed():
            return []
        if self.head_pending:
            self._head_bytes += len(data)
            self._measure = True
        else:
            self._measure = len(data) > self._max_headers_bytes
        rest = self._read_messages(data) if self._chunk_decoder is None else bytes(data)
        while rest and not self._last:  # chunks, and what may follow them
            rest = self._read_messages(rest) if self._chunk_decoder is None else self._read_chunks(rest)
        if self.head_pending:
            if self._head_bytes > self._max_headers_bytes:
                self._refuse(HeadersTooLargeError(f"a head of more than {self._max_headers_bytes} bytes"))
        elif not self._request.complete:
            self._await_body(len(data))
        arrived = self._arrived
        if arrived:
            self._arrived = []
        return arrived

    def _failed(self) -> bool:
        """A call, so that nobody takes what it said for what is still so after a callback."""
        return self.error is not None

    def _read_messages(self, data: bytes | memoryview) -> bytes:
        """By llhttp. Returns what is left to read."""
        first, before = self._request, len(self._arrived)
        received_bytes, head_pending, trailing = first.received_bytes, self.head_pending, self._trailing
        failure = None
        tail = self._tail if head_pending or trailing else b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._leave_http(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError as error:
            failure = error
        request = self._request
        chunks_began = request.chunked and request is not first and not request.complete
        enough = failure is not None and isinstance(failure.__context__, _EnoughError)
        if chunks_began or enough:
            # No callback says where it was called: what came before is counted.
            text = tail + bytes(data)
            requests = [whole for whole in self._arrived[before:] if whole is not first]
            try:
                at = end_of_head(text, 0, begun=True) if trailing else first.received_bytes - received_bytes
                for whole in requests:  # the first head of all may have begun before
                    at = end_of_head(text, at, begun=head_pending)
                    at = end_of_chunks(text, at) if whole.chunked else at + whole.received_bytes
                    head_pending = False
                if chunks_began:
                    at = end_of_head(text, at, begun=head_pending)
            except ValueError:
                self._refuse(
                    DownstreamProtocolError("malformed HTTP/1.1: it is not certain where a head ends")
                )
                return b""
            if chunks_began:
                return self._begin_chunks(text[at:], failure)
            self._parser = httptools.HttpRequestParser(self)
            self.unread = text[at:]
            return b""
        if failure is not None:
            self._fail(failure)
        elif self.head_pending or self._trailing:
            self._tail = (tail + data[-3:])[-3:]
        return b""

    def _begin_chunks(self, chunks: bytes, failure: httptools.HttpParserError | None) -> bytes:
        """llhttp has read `chunks`, up to a `failure` of its own if there was one: then they are read anew.
        Returns what is left to read."""
        decoder = ChunkDecoder(DownstreamProtocolError)
        if failure is None:
            try:
                decoder.feed(chunks, [])
            except DownstreamProtocolError as error:
                self._refuse(error)
            self._trailing = decoder.ended
            self._tail = chunks[-3:]
            self._chunk_decoder = None if decoder.ended else decoder
            return b""
        if isinstance(failure, httptools.HttpParserCallbackError):
            self._fail(failure)
            return b""
        self._request.received_bytes = 0
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
        except DownstreamProtocolError as error:
            self._refuse(error)
            return b""
        if pieces:  # in one: a small one costs much more memory than its bytes
            self.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if not decoder.ended:
            return b""
        self._chunk_decoder = None
        if data[at : at + 2] == b"\r\n":
            self._parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            return data[at + 2 :]
        self._trailing = True
        self._tail = b"\r\n"
        self._replay([b"transfer-encoding: chunked"], b"0\r\n")
        return data[at:]

    def _replay(self, framing: list[bytes], then: bytes = b"") -> None:
        """A fresh llhttp is told where in the present request it is."""
        self._parser = httptools.HttpRequestParser(self)
        self._replaying = True
        if not self._request.keep_alive:
            framing.append(b"connection: close")
        self._parser.feed_data(b"\r\n".join((b"POST / HTTP/1.1", *framing, b"", then)))
        self._replaying = False

    def feed_eof(self) -> None:
        """The client has closed its direction: the end of a tunnel's, an accident in any other body."""
        if self._tunnel is not None and not self._request.complete:
            self._request.complete = True
            self._tunnel.feed_end()

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        if len(self._arrived) >= MAX_REQUESTS_AT_ONCE:
            raise _EnoughError
        self.head_pending = True
        self._target = b""
        self._fields = []
        self._special = []
        self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        fields = self._special if name in _SPECIAL else self._fields
        if len(fields) >= self._max_headers_count:  # a small field costs much more memory than its bytes
            raise HeadersTooLargeError(f"more than {self._max_headers_count} headers")
        fields.append((name, value.strip()))  # RFC 9110 5.5: llhttp leaves the trailing whitespace

    def on_headers_complete(self) -> None:
        if self._replaying:
            self._fields = []
            self._special = []
            return
        self._check_size()
        parser, special = self._parser, self._special
        request = IncomingRequest(parser.get_method(), self._fields, parser.should_keep_alive())
        self._request = request
        self._chunks = []
        if len(special) != 1 or not request.keep_alive:
            self._read_special(request)
        request.authority, request.path = resolve_target(
            request.method, self._target, special, allow_absolute=self._allow_absolute_url
        )
        if request.method == b"CONNECT":
            self._read_upgrade(request, b"connect")
        self._fields = []  # trailers, from here on
        self.head_pending = False
        self._returned = False

    def on_body(self, data: bytes) -> None:
        request = self._request
        request.received_bytes += len(data)
        if self._returned:
            assert request.stream is not None
            request.stream.feed(data)
        else:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._skip_body:
            return
        request = self._request
        self._trailing = False
        if request.upgrade is not None:
            return  # the tunnel begins
        if self._fields:
            self._check_size()
            self._fields = [field for field in self._fields if not field[0].startswith(_MANAGED_PREFIXES)]
        if self._returned:
            assert request.stream is not None
            request.stream.feed_end(self._fields)
        elif self._fields:
            self._return_streaming()
            assert request.stream is not None
            request.stream.feed_end(self._fields)
        else:
            chunks = self._chunks
            if chunks:
                request.body = Body(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            self._arrived.append(request)
            self._returned = True
        request.complete = True
        self._last = not request.keep_alive

    # Less usual.

    def _read_special(self, request: IncomingRequest) -> None:
        """What a head says to this hop. Called if there is more than Host, or the connection is to end: else
        the version is 1.1, because a keep-alive of HTTP/1.0 is a header."""
        special: dict[bytes, list[bytes]] = {}
        for name, value in self._special:
            special.setdefault(name, []).append(value)
        version = self._parser.get_http_version()
        check_version(version)
        request.http10 = version == "1.0"
        if b"transfer-encoding" in special:
            check_transfer_encoding(special[b"transfer-encoding"], version)
            request.chunked = True
        if b"expect" in special and not request.http10:
            check_expect(special[b"expect"][0])
            request.expects_continue = True
        if b"te" in special and any(b"trailers" in value.lower() for value in special[b"te"]):
            request.headers.append((b"te", b"trailers"))
        if b"connection" in special:
            named = named_by_connection(special[b"connection"])
            request.headers = [field for field in request.headers if field[0] not in named]
        if b"upgrade" in special and self._parser.should_upgrade() and request.method != b"CONNECT":
            # RFC 9110 7.8: an offer that is not taken up is ignored, and so is one in HTTP/1.0.
            protocol = special[b"upgrade"][0].partition(b",")[0].strip().lower()
            self._skip_body = request.http10 or protocol in _DECLINED_UPGRADES
            if not self._skip_body:
                self._read_upgrade(request, protocol)

    def _read_upgrade(self, request: IncomingRequest, protocol: bytes) -> None:
        chunked = any(name == b"transfer-encoding" for name, _ in self._special)
        if chunked or any(name == b"content-length" and value != b"0" for name, value in request.headers):
            raise DownstreamProtocolError("a body beside an upgrade: where the tunnel begins is not certain")
        request.upgrade = protocol

    def _leave_http(self, rest: bytes) -> bytes:
        """llhttp has stopped behind a head. Returns what it may read on."""
        if self._skip_body:  # a declined offer: it would not read the body now
            self._skip_body = False
            if self._request.chunked:
                self._chunk_decoder = ChunkDecoder(DownstreamProtocolError)
                return rest
            lengths = [field for field in self._request.headers if field[0] == b"content-length"]
            self._replay([b": ".join(field) for field in lengths])
            return rest
        tunnel = self._tunnel = BodyStream(self._source)
        self._request.body = self._request.stream = tunnel
        self._arrived.append(self._request)
        self._returned = True
        if rest:
            self._request.received_bytes += len(rest)
            tunnel.feed(rest)
        return b""

    def _await_body(self, fed_bytes: int) -> None:
        """More of the body is to come. What comes beside it is bounded as a head is."""
        received_bytes = self._request.received_bytes
        if not self._returned or received_bytes != self._body_bytes:
            self._body_bytes = received_bytes
            self._bodiless_bytes = 0
            if not self._returned:
                self._return_streaming()
            return
        self._bodiless_bytes += fed_bytes
        if self._bodiless_bytes > self._max_headers_bytes:
            limit = self._max_headers_bytes
            self._refuse(HeadersTooLargeError(f"more than {limit} bytes of trailers or chunk extensions"))

    def _return_streaming(self) -> None:
        request = self._request
        body = request.body = request.stream = BodyStream(self._source)
        if self._chunks:
            body.feed(b"".join(self._chunks))
        self._chunks = []
        self._arrived.append(request)
        self._returned = True

    def _check_size(self) -> None:
        count = len(self._fields) + len(self._special)
        if count > self._max_headers_count:
            raise HeadersTooLargeError(f"{count} headers, more than {self._max_headers_count}")
        if self._measure:
            fields = (*self._fields, *self._special)
            size = len(self._target) + sum(len(name) + len(value) for name, value in fields)
            if size > self._max_headers_bytes:
                raise HeadersTooLargeError(f"headers of {size} bytes, more than {self._max_headers_bytes}")

    def _fail(self, error: httptools.HttpParserError) -> None:
        cause = error.__context__
        if isinstance(cause, DownstreamError):  # raised by a callback above
            self._refuse(cause)
        elif isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause  # a fault of ours, not of the client
        elif not self._last:  # RFC 9112 9.3: what follows `Connection: close` is not read
            self._refuse(DownstreamProtocolError(f"malformed HTTP/1.1: {error}"))

    def _refuse(self, error: DownstreamError) -> None:
        """The first fault is the one that is told."""
        if self.error is not None:
            return
        self.error = error
        request = self._request
        if self._returned and request.stream is not None and not request.complete:
            request.stream.fail(error)
        self._returned = True
