"""The content of a message: `Body`, which is complete, and `BodyStream`, which arrives in pieces.

Consumers use both as a `Body`. A body has one producer (a codec, a filter) and one consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from sidecar.errors import InternalError
from sidecar.http.headers import Headers
from sidecar.observability.grpc_call import MessageCounter

# The memory that a piece of a body takes besides its bytes: for a small piece, much more than the bytes.
_PIECE_BYTES = 48
# Pieces that wait for a slow reader are joined up to this size: a peer may send single bytes.
JOINED_BYTES = 2048
# The most that `read` joins of several pieces. The rest waits where backpressure counts it, and not in the
# buffers of a slow peer.
_READ_BYTES = 256 * 1024


class BodyTaker:
    """A consumer that takes pieces of a body as they arrive. Subclasses implement `take`."""

    __slots__ = ()

    def take(self, data: bytes) -> bool:
        """Returns False if the piece must wait: `Body.read` returns it then."""
        raise NotImplementedError


class Body:
    """A complete body. Subclasses are streams, wrap another body, or have a reader.

    `whole` contains all unread bytes if the body is complete and has no trailers, or else None. A codec
    writes a whole body together with its head, in one call.
    """

    __slots__ = ("whole",)

    def __init__(self, whole: bytes | None) -> None:
        self.whole = whole

    @property
    def ended(self) -> bool:
        """Whether the producer has sent everything; bytes may still wait to be read."""
        return True

    @property
    def trailers(self) -> Headers:
        """The fields after the content; complete once `read` has returned ``b""``."""
        return []

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        raise InternalError("a complete body has no trailers: wrap it in a stream that has them")

    @property
    def as_long_as(self) -> Body:
        """The body that has the same length: this body, or the one that a wrapper passes on unchanged."""
        return self

    async def read(self) -> bytes:
        """The bytes that have arrived, at least one; ``b""`` at the end. Raises the `RequestError` that cut
        the body short, after the bytes that came before it."""
        data, self.whole = self.whole or b"", b""
        return data

    def give_at_once(self, taker: BodyTaker) -> None:
        """Lets `taker` have pieces as they arrive, while it keeps up: none of them wakes a task. The consumer
        calls `read` all the same, for the others, the end, and the error. Has no effect on a wrapper that
        changes or observes the pieces."""

    def close(self) -> None:
        """The consumer reads no more. Idempotent; every consumer calls it, on every path."""

    def give_up(self, error: Exception) -> None:
        """Stops the producer, drops the bytes that were not read yet, and lets `read` raise `error`. Has no
        effect on a body that has ended."""

    def when_ended(self, call: Callable[[], None]) -> None:
        """Calls `call` once, when the producer has sent everything. For one caller."""
        call()

    def count_messages(self, counter: MessageCounter) -> None:
        """Lets `counter` see all bytes of the body. For one caller, before anything was read."""
        if self.whole:
            counter.feed(self.whole)


class BodyReader(Protocol):
    """The parts of a body that an object must have so that `ReaderBody` makes a body of it."""

    @property
    def ended(self) -> bool:
        """As `Body.ended`."""

    async def read(self) -> bytes:
        """As `Body.read`."""

    def close(self) -> None:
        """As `Body.close`."""


class ReaderBody(Body):
    """A body that is made while it is read. Give it a reader instead of deriving a class from `Body`: a class
    that is not compiled cannot be derived from a compiled one."""

    __slots__ = ("_reader",)

    def __init__(self, reader: BodyReader) -> None:
        self.whole = None
        self._reader = reader

    @property
    def ended(self) -> bool:
        return self._reader.ended

    async def read(self) -> bytes:
        return await self._reader.read()

    def close(self) -> None:
        self._reader.close()


class WrappedBody(Body):
    """A body that is read from another one, `_source`. Subclasses change or observe the bytes."""

    __slots__ = ("_source",)

    def __init__(self, source: Body) -> None:
        self.whole = None
        self._source = source

    @property
    def ended(self) -> bool:
        return self._source.ended

    @property
    def trailers(self) -> Headers:
        return self._source.trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._source.trailers = trailers

    async def read(self) -> bytes:
        return await self._source.read()

    def close(self) -> None:
        self._source.close()

    def give_up(self, error: Exception) -> None:
        self._source.give_up(error)

    def when_ended(self, call: Callable[[], None]) -> None:
        self._source.when_ended(call)

    def count_messages(self, counter: MessageCounter) -> None:
        self._source.count_messages(counter)


EMPTY = Body(b"")
"""Shared by all messages without content: nothing can be read from it or written to it."""


class BodySource(Protocol):
    """The producer's input: a codec stops reading while the consumer of its body is slow."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None:
        """The consumer left before the end: give up the exchange (HTTP/1: close the connection)."""


class BodyStream(Body):
    """A body that arrives in pieces, bounded by backpressure.

    The producer is paused above `high_water` buffered bytes (the memory of the pieces included), and
    resumed when all of them were read. An upgraded connection (CONNECT, WebSocket) is a body in each
    direction, and the two end independently.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_ended",
        "_error",
        "_left",
        "_messages",
        "_on_end",
        "_paused",
        "_size",
        "_source",
        "_taker",
        "_trailers",
        "_waiter",
        "high_water",
    )

    def __init__(self, source: BodySource | None = None, *, high_water: int = 256 * 1024) -> None:
        self.whole = None
        self.high_water = high_water
        self._source = source
        self._chunks: list[bytes] = []
        self._size = 0
        self._closed = False
        self._ended = False
        self._paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._left: asyncio.Future[None] | None = None  # set while a caller waits for the consumer to leave
        self._taker: BodyTaker | None = None
        self._trailers: Headers = []
        self._messages: MessageCounter | None = None
        self._on_end: Callable[[], None] | None = None

    # For the producer.

    def produced_by(self, source: BodySource) -> None:
        """For a producer that is made after its body; before the first `feed`."""
        self._source = source

    def feed(self, data: bytes) -> None:
        """Drops bytes that arrive after `close` or an error."""
        if self._closed or self._error is not None:
            return
        if self._messages is not None:
            self._messages.feed(data)
        taker = self._taker
        if taker is not None and not self._chunks and taker.take(data):
            return
        if self._paused and len(data) < JOINED_BYTES and len(self._chunks[-1]) < JOINED_BYTES:
            self._chunks[-1] += data
            self._size += len(data)
            return
        self._chunks.append(data)
        self._size += len(data) + _PIECE_BYTES
        if self._size > self.high_water and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_body()
        self._wake()

    def feed_end(self, trailers: Headers | None = None) -> None:
        if trailers:
            self._trailers = trailers
        self._ended = True
        self._release_source()
        self._source = None  # has the response that has this body: that is a cycle
        self._wake()
        on_end, self._on_end = self._on_end, None  # the codec keeps the body until the next message
        if on_end is not None:
            on_end()

    def fail(self, error: Exception) -> None:
        """Cuts the body short: `read` returns the bytes that have arrived, and then raises `error`."""
        if not self._ended and self._error is None:
            self._error = error
            self._taker = None
            self._source = None  # it has ended: a later read must not resume it
            self._wake()

    async def left(self) -> None:
        """Returns when the consumer has closed the body, at its end or before. For one caller."""
        if not self._closed:
            self._left = asyncio.get_running_loop().create_future()
            await self._left

    # For the consumer.

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def trailers(self) -> Headers:
        return self._trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._trailers = trailers

    def when_ended(self, call: Callable[[], None]) -> None:
        if self._ended:
            call()
        else:
            self._on_end = call

    def count_messages(self, counter: MessageCounter) -> None:
        for chunk in self._chunks:
            counter.feed(chunk)
        if not self._ended:
            self._messages = counter

    def give_at_once(self, taker: BodyTaker) -> None:
        self._taker = taker

    async def read(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._size > _READ_BYTES and len(self._chunks) > 1:
            return self._read_some()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._release_source()
        return data

    def _read_some(self) -> bytes:
        """The first pieces of many. The producer stays paused."""
        count = size = 0
        for chunk in self._chunks:
            size += len(chunk) + _PIECE_BYTES
            if size > _READ_BYTES:
                break
            count += 1
        count = max(count, 1)
        data = b"".join(self._chunks[:count])
        del self._chunks[:count]
        self._size -= len(data) + count * _PIECE_BYTES
        return data

    def give_up(self, error: Exception) -> None:
        if not self._ended and self._error is None:
            source = self._source
            self._chunks.clear()
            self._size = 0
            self.fail(error)
            if source is not None:
                source.abandon_body()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._taker = None
        self._chunks.clear()
        self._size = 0
        if self._left is not None and not self._left.done():
            self._left.set_result(None)
        if self._source is not None and not self._ended and self._error is None:
            self._source.abandon_body()

    def _release_source(self) -> None:
        """Resumes the producer. Also called at the body's end: other messages can arrive while it is read."""
        if self._paused and self._source is not None:
            self._paused = False
            self._source.resume_body()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
