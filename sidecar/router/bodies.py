"""The router's wrappers of bodies: a request's body that can be sent again, a response's body whose end is
seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.config.route import DEFAULT_REPLAY_LIMIT_BYTES
from sidecar.errors import UpstreamTimeoutError
from sidecar.grpc_status import find_grpc_status
from sidecar.http.body import JOINED_BYTES, Body, BodyTaker, WrappedBody
from sidecar.http.headers import Headers
from sidecar.timers import Timer, Timers


class ReplayableBody:
    """A streaming request body that is recorded while it is sent. A body above the limit cannot be sent
    again, but the current attempt continues. Small pieces are joined: each one costs more memory than its
    bytes. `on_end` is called when its end has been read."""

    __slots__ = (
        "_current",
        "_limit_bytes",
        "_lock",
        "_on_end",
        "_record",
        "_size",
        "ended",
        "replayable",
        "source",
    )

    def __init__(
        self, source: Body, on_end: Callable[[], None], *, limit_bytes: int = DEFAULT_REPLAY_LIMIT_BYTES
    ) -> None:
        self.source = source
        self.replayable = True
        self._on_end: Callable[[], None] | None = on_end
        self._limit_bytes = limit_bytes
        self.ended = False
        self._size = 0
        self._record: list[bytes] = []
        # An attempt that has failed may still be reading when the next one begins.
        self._lock = asyncio.Lock()
        self._current: BodyAttempt | None = None

    def attempt(self) -> BodyAttempt:
        """The body from its beginning, for one attempt to send it."""
        assert self.replayable
        self._current = BodyAttempt(self)
        return self._current

    async def read_for(self, reader: BodyAttempt) -> bytes:
        """The bytes behind those that `reader` has read; empty at the end."""
        if self._has_read_all(reader):
            async with self._lock:
                if self._has_read_all(reader) and not await self._read_on():
                    return b""
        record = self._record
        if reader.offset == len(record[reader.piece]):
            reader.piece += 1
            reader.offset = 0
        piece = record[reader.piece]
        data = piece[reader.offset :] if reader.offset else piece
        reader.offset = len(piece)
        if self._size > self._limit_bytes and reader is self._current and self._has_read_all(reader):
            self.replayable = False
            record.clear()
            reader.piece = reader.offset = 0
        return data

    def _has_read_all(self, reader: BodyAttempt) -> bool:
        """Of the record."""
        record = self._record
        if not record:
            return reader.piece == 0
        return reader.piece == len(record) - 1 and reader.offset == len(record[-1])

    async def _read_on(self) -> bool:
        chunk = await self.source.read()
        if chunk:
            record = self._record
            if record and len(chunk) < JOINED_BYTES and len(record[-1]) < JOINED_BYTES:
                record[-1] += chunk
            else:
                record.append(chunk)
            self._size += len(chunk)
        elif not self.ended:
            self.ended = True
            on_end, self._on_end = self._on_end, None
            self._current = None  # without a cycle the record is freed with the request
            if on_end is not None:
                on_end()
        return bool(chunk)


class BodyAttempt(Body):
    """The bytes that a `ReplayableBody` has recorded, and then the ones that arrive later. It has read all
    pieces of the record before `piece`, and `offset` bytes of that one."""

    __slots__ = ("_body", "offset", "piece")

    def __init__(self, body: ReplayableBody) -> None:
        super().__init__(None)
        self._body = body
        self.piece = 0
        self.offset = 0

    @property
    def ended(self) -> bool:
        return self._body.source.ended

    @property
    def trailers(self) -> Headers:
        return self._body.source.trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._body.source.trailers = trailers

    async def read(self) -> bytes:
        return await self._body.read_for(self)

    def close(self) -> None:
        """Does not close the body, which the next attempt reads; after the last one, the codec closes it."""


class CountedBody(WrappedBody):
    """A streaming response body that calls `on_end` once: at its end, at its failure, or when it is closed
    early. The upstream must have sent all of it by `expires_s` of the timers' clock; the client may read it
    later.
    """

    __slots__ = ("_on_end", "_timer")

    def __init__(
        self, source: Body, on_end: Callable[[], None], timers: Timers, expires_s: float | None
    ) -> None:
        self.whole = None
        self._source = source
        self._on_end: Callable[[], None] | None = on_end
        self._timer: Timer | None = None
        if expires_s is not None and not source.ended:
            self._timer = timers.after(max(0.0, expires_s - timers.now_s()), self._expire)

    async def read(self) -> bytes:
        try:
            data = await self._source.read()
        except BaseException:
            self.close()
            raise
        if not data:
            self._end()
        return data

    def give_at_once(self, taker: BodyTaker) -> None:
        self._source.give_at_once(taker)

    def _expire(self) -> None:
        error = UpstreamTimeoutError("the response was not complete within the route's timeout")
        self._source.give_up(error)

    def close(self) -> None:
        self._source.close()
        self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


class CallBody(CountedBody):
    """The response to a gRPC call whose trailers tell `on_status` how the host did. They tell nothing if the
    response was cut short."""

    __slots__ = ("_on_status",)

    def __init__(
        self,
        source: Body,
        on_end: Callable[[], None],
        timers: Timers,
        expires_s: float | None,
        on_status: Callable[[int], None],
    ) -> None:
        super().__init__(source, on_end, timers, expires_s)
        self._on_status: Callable[[int], None] | None = on_status

    def _end(self) -> None:
        on_status, self._on_status = self._on_status, None
        if on_status is not None and self._source.ended:
            on_status(find_grpc_status(self._source.trailers))
        super()._end()
