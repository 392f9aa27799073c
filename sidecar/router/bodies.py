"""Bodies as the router wraps them: a request's, so that it can be sent again; a response's, to see it end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.errors import UpstreamTimeoutError
from sidecar.http.message import BodyReader, Headers
from sidecar.router.time_limit import TimeLimit
from sidecar.timers import Timers

REPLAY_LIMIT_BYTES = 256 * 1024


class ReplayableBody:
    """A streaming request body, recorded as it passes. One that outgrows the limit can no longer be sent
    again, and that is all that happens. `on_end` is called when its end has been read."""

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
        self, source: BodyReader, on_end: Callable[[], None], *, limit_bytes: int = REPLAY_LIMIT_BYTES
    ) -> None:
        self.source = source
        self.replayable = True
        self._on_end = on_end
        self._limit_bytes = limit_bytes
        self.ended = False
        self._size = 0
        self._record: list[bytes] = []
        # An attempt that was given up may still be reading when the next one begins.
        self._lock = asyncio.Lock()
        self._current: BodyAttempt | None = None

    def attempt(self) -> BodyAttempt:
        """The body from its beginning, for one attempt to send it."""
        assert self.replayable
        self._current = BodyAttempt(self)
        return self._current

    async def read_at(self, position: int, reader: BodyAttempt) -> tuple[bytes, int]:
        """The chunk at `position` of the record, and the position after it."""
        if position == len(self._record):
            async with self._lock:
                if position == len(self._record) and not await self._read_on():
                    return b"", position
        chunk = self._record[position]
        position += 1
        if self._size > self._limit_bytes and position == len(self._record) and reader is self._current:
            self.replayable = False
            self._record.clear()
            position = 0
        return chunk, position

    async def _read_on(self) -> bool:
        chunk = await self.source.read()
        if chunk:
            self._record.append(chunk)
            self._size += len(chunk)
        elif not self.ended:
            self.ended = True
            self._on_end()
        return bool(chunk)


class BodyAttempt:
    """A `BodyReader` of what a `ReplayableBody` has recorded, and then of what is still to come."""

    __slots__ = ("_body", "_position")

    def __init__(self, body: ReplayableBody) -> None:
        self._body = body
        self._position = 0

    @property
    def trailers(self) -> Headers:
        return self._body.source.trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._body.source.trailers = trailers

    async def read(self) -> bytes:
        chunk, self._position = await self._body.read_at(self._position, self)
        return chunk

    def close(self) -> None:
        """The body goes on for the next attempt; after the last, it is its codec that sees to the rest."""


class CountedBody:
    """A streaming response body: `on_end` is called once, at its end or failure or when it is left early.
    By `expires_s`, of the timers' clock, the route wants it complete."""

    __slots__ = ("_expires_s", "_on_end", "_source", "_timers")

    def __init__(
        self, source: BodyReader, on_end: Callable[[], None], timers: Timers, expires_s: float | None
    ) -> None:
        self._source = source
        self._on_end: Callable[[], None] | None = on_end
        self._timers = timers
        self._expires_s = expires_s

    @property
    def trailers(self) -> Headers:
        return self._source.trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._source.trailers = trailers

    async def read(self) -> bytes:
        try:
            data = await self._read()
        except BaseException:
            self.close()
            raise
        if not data:
            self._end()
        return data

    async def _read(self) -> bytes:
        if self._expires_s is None:
            return await self._source.read()
        remaining_s = max(0.0, self._expires_s - self._timers.now_s())
        with TimeLimit(self._timers, remaining_s, _too_slow):
            return await self._source.read()

    def close(self) -> None:
        self._source.close()
        self._end()

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()


def _too_slow() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("the response was not complete within the route's timeout")
