"""Parses the messages of one direction of an HTTP/1.1 connection, without I/O.

Framing is decided here (RFC 9112 6): where a head ends, how long its body is, and where the next message
begins. `reader_state` lists the states. llhttp, through httptools, parses heads and nothing else: each head
is cut at its empty line before llhttp sees it. A parser whose head announced a body is replaced, unless the
body is small and came with the head: then the parser skips it, and must agree on its length.
`RequestReader` and `ResponseReader` add the rules of their direction.

The callbacks below run for each header of each message: they are the hottest code of the sidecar.
"""

from __future__ import annotations

from typing import Final

import httptools

from sidecar.errors import RequestError
from sidecar.http.body import Body, BodySource, BodyStream
from sidecar.http.h1.chunks import ChunkDecoder
from sidecar.http.h1.incoming import Direction, IncomingMessage
from sidecar.http.h1.reader_state import (
    AWAITING,
    BODY_ENDS,
    CHUNKED_BODY,
    HEAD,
    HEAD_BEGINS,
    HEAD_WITH_CHUNKS,
    HEAD_WITH_LENGTH,
    HEAD_WITHOUT_BODY,
    HEAD_WITHOUT_FRAMING,
    IDLE,
    INTERIM_ENDS,
    READING_ENDS,
    SIZED_BODY,
    TRANSITIONS,
    Event,
)
from sidecar.http.h1.rules import ReaderRules
from sidecar.http.headers import Headers

_EMPTY_LINE: Final = b"\r\n\r\n"  # including the end of the previous line
_EMPTY_LINE_BYTES: Final = 4
_CR: Final = 13
_LF: Final = 10
# The bytes of a head that its limit does not count: in the first line, and the separators of a field.
_FIRST_LINE_BYTES: Final = 32
_FIELD_BYTES: Final = 4
_SKIPPED_BODY_BYTES: Final = 4 * 1024


class MessageReader:
    """Frames the messages of one `Direction`. `error` is the first error of the peer: the message that
    contains it is cut short or not delivered, and no other message follows.

    The two directions do not inherit from it: the interpreter runs code faster that sees objects of one
    class.
    """

    __slots__ = (
        "_chunks",
        "_direction",
        "_head_bytes",
        "_head_event",
        "_left",
        "_own_names",
        "_parser",
        "_pieces",
        "_rules",
        "_skipped_bytes",
        "_small_head_bytes",
        "_source",
        "_tail",
        "error",
        "fields",
        "length",
        "message",
        "special",
        "state",
        "target",
    )

    def __init__(
        self, direction: Direction, source: BodySource, rules: ReaderRules, own_names: frozenset[bytes]
    ) -> None:
        """`own_names` are the fields that `special` collects: they are for this hop only."""
        self.state = IDLE
        self.error: RequestError | None = None
        self._direction = direction
        self._source = source
        self._rules = rules
        # A head of no more bytes is within both limits.
        self._small_head_bytes = min(_FIELD_BYTES * rules.max_headers_count, rules.max_headers_bytes)
        self._own_names = own_names | {b"content-length"}
        self._parser = direction.new_parser(self)
        # The current head, or the last one.
        self._tail = b""  # its last 3 bytes before the current data
        self._head_bytes = 0
        self._head_event: Event | None = None  # how it ends; None until llhttp has seen its end
        self.target = b""
        self.fields: Headers = []
        self.special: Headers = []
        self.length = b""  # the value of Content-Length
        # The message whose body is being read.
        self.message: IncomingMessage | None = None
        self._pieces: list[bytes] = []  # of a body that is not a stream yet
        self._skipped_bytes = 0  # of a whole body that llhttp has not seen yet
        self._left = 0  # missing bytes of a body with a known length
        self._chunks: ChunkDecoder | None = None

    def renew_parser(self) -> None:
        self._parser = self._direction.new_parser(self)

    # Reading. Each method reads a part of a message from `data[at:]`, which is not empty, and returns the
    # position behind that part. Each raises `RequestError`.

    def read_body(self, data: bytes, at: int) -> int:
        if self.state is SIZED_BODY:
            return self._read_sized(data, at)
        if self.state is CHUNKED_BODY:
            return self._read_chunks(data, at)
        self._add(data[at:])
        return len(data)

    def read_head(self, data: bytes, at: int) -> int:
        if self.state is not HEAD:
            if data[at] <= _CR:
                at = _skip_empty_lines(data, at)
                if at == len(data):
                    return at
            if self.state is IDLE:
                raise self._malformed("unexpected bytes before a request")
            self._head_event = None
            self._head_bytes = 0
            self.target = b""
            self.fields = []
            self.special = []
            self.length = b""
        end = data.find(_EMPTY_LINE, at) + _EMPTY_LINE_BYTES
        if end < _EMPTY_LINE_BYTES or self._tail:
            end = self._find_straddling(data, at, end)
            if not end:
                return self._read_part_of_head(data, at)
        parser = self._parser
        self._parse(data[at:end])
        event = self._head_event
        if event is None:
            raise self._uncertain()
        self.state = TRANSITIONS[self.state][event]
        if event is HEAD_WITHOUT_BODY:
            message, self.message = self.message, None
            assert message is not None
            message.complete = True
            self._direction.deliver()
            self._direction.message_ended()
        elif event is not INTERIM_ENDS:
            if event is HEAD_WITH_LENGTH and len(data) - end >= self._left:
                return self._take_whole_body(data, end, parser)
            self.renew_parser()  # the old one expects this body
            if event is HEAD_WITH_CHUNKS:
                self._chunks = ChunkDecoder(self._rules)
        return end

    def _read_part_of_head(self, data: bytes, at: int) -> int:
        if self.state is AWAITING:
            self.state = TRANSITIONS[self.state][HEAD_BEGINS]
        self._tail = (self._tail + data[max(at, len(data) - 3) :])[-3:]
        self._parse(data[at:])
        if self._head_event is not None:
            raise self._uncertain()
        self._check_pending_size()
        return len(data)

    def _find_straddling(self, data: bytes, at: int, end: int) -> int:
        """Returns the position behind the empty line, which may have begun before `data`; 0 if its end is
        missing. `end` is the position behind an empty line that is wholly in `data`, if it is more than 3."""
        tail, self._tail = self._tail, b""
        found = (tail + data[at : at + 3]).find(_EMPTY_LINE)
        if found >= 0:
            return at + found + _EMPTY_LINE_BYTES - len(tail)
        if end >= _EMPTY_LINE_BYTES:
            return end
        self._tail = tail
        return 0

    def _parse(self, piece: bytes) -> None:
        self._head_bytes += len(piece)
        if self._head_bytes > self._small_head_bytes:  # there may be too many fields
            self._count(len(self.fields) + len(self.special) + piece.count(b"\n") - 2)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            if upgrade.args[0] != len(piece):
                raise self._uncertain() from None
            self.renew_parser()  # the old one stops at an upgrade
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
                raise cause from None  # raised by a callback below
            raise self._malformed(f"malformed HTTP/1.1: {error}") from None

    def framing(self) -> Event:
        """The framing of a message that may have a body, but no chunks (RFC 9112 6.3). llhttp refuses
        contradictory lengths."""
        if not self.length:
            return HEAD_WITHOUT_FRAMING
        if not self.length.isdigit():
            raise self._malformed("malformed HTTP/1.1: Content-Length is not a number")
        self._left = int(self.length)
        return HEAD_WITH_LENGTH if self._left else HEAD_WITHOUT_BODY

    def _take_whole_body(
        self, data: bytes, at: int, parser: httptools.HttpRequestParser | httptools.HttpResponseParser
    ) -> int:
        """Takes a body that arrived together with its head, as is usual. `parser` has read the head."""
        message, self.message = self.message, None
        assert message is not None
        size = self._left
        end = at + size
        body = data[at:end]
        if parser is self._parser:  # else it is a new one already
            self._skip_body(body, size)
        message.received_bytes = size
        message.body = Body(body)
        message.complete = True
        self.state = TRANSITIONS[self.state][BODY_ENDS]
        self._direction.deliver()
        self._direction.message_ended()
        return end

    def _skip_body(self, body: bytes, size: int) -> None:
        """The parser goes on to the next head. A small body costs less than a new parser."""
        if size > _SKIPPED_BODY_BYTES:
            self.renew_parser()
            return
        self._skipped_bytes = size
        try:
            self._parser.feed_data(body)
        except httptools.HttpParserError:
            raise self._uncertain() from None
        if self._skipped_bytes:
            raise self._uncertain()

    def _read_sized(self, data: bytes, at: int) -> int:
        left = self._left
        piece = data[at : at + left]
        size = len(piece)
        self._left = left - size
        self._add(piece)
        if size == left:
            self.end_body(None)
        return at + size

    def _read_chunks(self, data: bytes, at: int) -> int:
        chunks = self._chunks
        assert chunks is not None
        pieces: list[bytes] = []
        try:
            at = chunks.feed(data, at, pieces)
        finally:  # also the chunks before an error
            if pieces:  # joined: a small piece costs much more memory than its bytes
                self._add(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if chunks.ended:
            self._chunks = None
            self.end_body(self._direction.without_forbidden(chunks.trailers) if chunks.trailers else None)
        return at

    # Bodies: whole if they end before `feed` returns, else streams.

    def _add(self, piece: bytes) -> None:
        message = self.message
        assert message is not None
        message.received_bytes += len(piece)
        if message.stream is not None:
            message.stream.feed(piece)
        else:
            self._pieces.append(piece)

    def end_body(self, trailers: Headers | None) -> None:
        message, self.message = self.message, None
        assert message is not None
        message.complete = True
        self.state = TRANSITIONS[self.state][BODY_ENDS]
        if message.stream is None and trailers:
            self._open_stream(message)
        if message.stream is not None:
            message.stream.feed_end(trailers)
        else:
            pieces = self._pieces
            if pieces:
                message.body = Body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
                self._pieces = []
            self._direction.deliver()
        self._direction.message_ended()

    def _open_stream(self, message: IncomingMessage) -> None:
        stream = message.body = message.stream = BodyStream(self._source)
        if self._pieces:
            stream.feed(b"".join(self._pieces))
            self._pieces = []
        self._direction.deliver()

    def deliver_unfinished(self) -> None:
        """Called before `feed` returns: a message that is not complete is delivered as a stream."""
        message = self.message
        if message is not None and message.stream is None:
            self._open_stream(message)

    def fail(self, error: RequestError) -> None:
        self.error = error
        self.state = TRANSITIONS[self.state][READING_ENDS]
        message, self.message = self.message, None
        if message is not None and message.stream is not None:
            message.stream.fail(error)

    # Limits: of the bytes of names, values and target, as Envoy counts them.

    def _count(self, fields: int) -> None:
        """Fields are counted before they are stored: a small field costs much more memory than its bytes.
        The lines of a head are its fields, the first line and the empty line."""
        limit = self._rules.max_headers_count
        if fields > limit:
            raise self._rules.too_large(f"more than {limit} headers")

    def _check_pending_size(self) -> None:
        separators = _FIRST_LINE_BYTES + _FIELD_BYTES * (len(self.fields) + len(self.special) + 1)
        limit = self._rules.max_headers_bytes
        if self._head_bytes - separators > limit:
            raise self._rules.too_large(f"the head is longer than {limit} bytes")

    def _check_size(self) -> None:
        if self._head_bytes <= self._rules.max_headers_bytes:
            return
        fields = (*self.fields, *self.special)
        size = len(self.target) + sum([len(name) + len(value) for name, value in fields])
        if size > self._rules.max_headers_bytes:
            raise self._rules.too_large(f"{size} bytes of headers, more than {self._rules.max_headers_bytes}")

    # Called by httptools.

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.strip()  # RFC 9110 5.5: llhttp leaves the trailing white space
        if name in self._own_names:
            if name != b"content-length":
                self.special.append((name, value))
                return
            self.length = value
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_event is not None:
            raise self._uncertain()
        if self._head_bytes > self._small_head_bytes:
            self._count(len(self.fields) + len(self.special))
            self._check_size()
        self._head_event = self._direction.read_fields()

    # After a head, llhttp gets only small bodies that are complete.

    def on_chunk_header(self) -> None:
        raise self._uncertain()

    def on_body(self, data: bytes) -> None:
        if len(data) != self._skipped_bytes:
            raise self._uncertain()
        self._skipped_bytes = 0

    def _uncertain(self) -> RequestError:
        """The error for a head whose end is different for llhttp and for this class."""
        return self._malformed("malformed HTTP/1.1: the end of the head is ambiguous")

    def _malformed(self, reason: str) -> RequestError:
        return self._rules.malformed(reason)


def _skip_empty_lines(data: bytes, at: int) -> int:
    while at < len(data) and (data[at] == _CR or data[at] == _LF):
        at += 1
    return at
