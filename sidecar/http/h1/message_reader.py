"""Parses the messages of one direction of an HTTP/1.1 connection, without I/O.

Framing is decided here (RFC 9112 6): where a head ends, how long its body is, and where the next message
begins. `reader_state` lists the states, and `head` reads heads. `RequestReader` and `ResponseReader` add the
rules of their direction.
"""

from __future__ import annotations

from typing import Final

from sidecar.errors import RequestError
from sidecar.http.body import Body, BodySource, BodyStream
from sidecar.http.h1.chunks import ChunkDecoder, part
from sidecar.http.h1.incoming import IncomingMessage
from sidecar.http.h1.reader_state import (
    BODY_ENDS,
    CHUNKED_BODY,
    HEAD_BEGINS,
    HEAD_WITH_CHUNKS,
    HEAD_WITH_LENGTH,
    HEAD_WITHOUT_BODY,
    IDLE,
    READING_ENDS,
    SIZED_BODY,
    TRANSITIONS,
    Event,
)
from sidecar.http.h1.rules import ReaderRules
from sidecar.http.headers import Headers
from sidecar.transport.bulk_reader import BULK_BYTES

_EMPTY_LINE: Final = b"\r\n\r\n"  # including the end of the previous line
_CR: Final = 13
_LF: Final = 10
# A head that arrives in pieces is checked with each line, and each time that it has grown by so much.
_CHECKED_BYTES: Final = 1024


class _NoSource:
    """The source of the bodies that follow a lost connection: none follows."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


_NO_SOURCE: Final = _NoSource()


class MessageReader:
    """Frames messages. `error` is the first error of the peer: the message that contains it is cut short or
    not delivered, and no other message follows."""

    __slots__ = (
        "_beginning",
        "_checked_bytes",
        "_chunks",
        "_left",
        "_pieces",
        "_source",
        "error",
        "message",
        "rules",
        "state",
    )

    def __init__(self, source: BodySource, rules: ReaderRules) -> None:
        self.state = IDLE
        self.error: RequestError | None = None
        self.rules = rules
        self._source = source
        self._beginning = b""  # of a head whose end is missing
        self._checked_bytes = 0  # of the beginning
        # The message whose body is being read.
        self.message: IncomingMessage | None = None
        self._pieces: list[bytes] = []  # of a body that is not a stream yet
        self._left = 0  # missing bytes of a body with a known length; 0 for others
        self._chunks: ChunkDecoder | None = None

    def lose_source(self) -> None:
        """The connection is lost. Its objects form no cycle then, which only the garbage collector frees."""
        self._source = _NO_SOURCE

    # The direction.

    def parse_head(self, data: bytes, at: int) -> int:
        """Reads the head of a message, and its body if it is complete. Returns the position behind them; 0 if
        the end of the head is missing. Sets `message` and calls `begin_body`, except for an interim response.
        """
        raise NotImplementedError

    def check_beginning(self, beginning: bytes) -> None:
        """Refuses the beginning of a head if it is invalid."""
        raise NotImplementedError

    def deliver(self) -> None:
        """Called when the message can be returned: complete, or as a stream."""
        raise NotImplementedError

    def message_ended(self) -> None:
        """Called in state IDLE."""

    def without_forbidden(self, trailers: Headers) -> Headers:
        raise NotImplementedError

    # Reading. Each method reads a part of a message from `data[at:]`, which is not empty, and returns the
    # position behind that part. Each raises `RequestError`.

    def read_head(self, data: bytes, at: int) -> int:
        if self._beginning:
            return self._read_rest_of_head(data, at)
        if data[at] <= _CR:
            at = _skip_empty_lines(data, at)
            if at == len(data):
                return at
        if self.state is IDLE:
            raise self.rules.malformed("malformed HTTP/1.1: unexpected bytes before a request")
        end = self.parse_head(data, at)
        if not end:
            self.state = TRANSITIONS[self.state][HEAD_BEGINS]
            self._keep_beginning(data[at:])
            return len(data)
        return end

    def _read_rest_of_head(self, data: bytes, at: int) -> int:
        before = len(self._beginning)
        joined = self._beginning + data[at:]
        if joined.find(_EMPTY_LINE, max(before - len(_EMPTY_LINE) + 1, 0)) < 0:
            self._keep_beginning(joined)
            return len(data)
        self._beginning = b""
        self._checked_bytes = 0
        return at + self.parse_head(joined, 0) - before

    def _keep_beginning(self, beginning: bytes) -> None:
        """Not each piece is checked: a client could send single bytes."""
        checked, size = self._checked_bytes, len(beginning)
        if (
            not checked
            or size - checked >= _CHECKED_BYTES
            or size > self.rules.max_headers_bytes
            or b"\n" in beginning[checked:]
        ):
            self.check_beginning(beginning)
            self._checked_bytes = size
        self._beginning = beginning

    def read_body(self, data: bytes, at: int) -> int:
        if self.state is SIZED_BODY:
            return self._read_sized(data, at)
        if self.state is CHUNKED_BODY:
            return self._read_chunks(data, at)
        self._add(part(data, at, len(data)))
        return len(data)

    def begin_body(self, event: Event, length: int, data: bytes, at: int) -> int:
        """`event` is the end of the head of `message`, and `at` the position behind it. Reads a body that
        arrived together with its head, as is usual; `length` is its size, if the event is HEAD_WITH_LENGTH.
        """
        self.state = TRANSITIONS[self.state][event]
        if event is HEAD_WITHOUT_BODY:
            self._end_whole(b"")
        elif event is HEAD_WITH_LENGTH:
            end = at + length
            if end <= len(data):
                self.state = TRANSITIONS[self.state][BODY_ENDS]
                self._end_whole(data[at:end])
                return end
            self._left = length
        elif event is HEAD_WITH_CHUNKS:
            self._chunks = ChunkDecoder(self.rules)
        return at

    def _end_whole(self, body: bytes) -> None:
        message = self.message
        assert message is not None
        self.message = None
        if body:
            message.received_bytes = len(body)
            message.body = Body(body)
        message.complete = True
        self.deliver()
        self.message_ended()

    def _read_sized(self, data: bytes, at: int) -> int:
        left = self._left
        piece = part(data, at, at + left)
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
            self.end_body(self.without_forbidden(chunks.trailers) if chunks.trailers else None)
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
        message = self.message
        assert message is not None
        self.message = None
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
            self.deliver()
        self.message_ended()

    def _open_stream(self, message: IncomingMessage) -> None:
        stream = BodyStream(self._source)
        message.body = message.stream = stream
        if self._pieces:
            stream.feed(b"".join(self._pieces))
            self._pieces = []
        self.deliver()

    def deliver_unfinished(self) -> None:
        """Called before `feed` returns: a message that is not complete is delivered as a stream."""
        message = self.message
        if message is not None and message.stream is None:
            self._open_stream(message)

    def expects_bulk(self, size: int) -> bool:
        """Whether much of a body is missing: by its length, or because the last read of `size` bytes was
        large."""
        return self.message is not None and (size >= BULK_BYTES or self._left >= BULK_BYTES)

    def fail(self, error: RequestError) -> None:
        self.error = error
        self.state = TRANSITIONS[self.state][READING_ENDS]
        self._beginning = b""
        message = self.message
        self.message = None
        if message is not None and message.stream is not None:
            message.stream.fail(error)


def _skip_empty_lines(data: bytes, at: int) -> int:
    while at < len(data) and (data[at] == _CR or data[at] == _LF):
        at += 1
    return at
