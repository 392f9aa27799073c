"""The way into a server's connection: what was read becomes requests that wait for their turn, and no more of
them than are soon served."""

from __future__ import annotations

import asyncio
from collections import deque

from sidecar.config.listener import HttpConnectionManager
from sidecar.http.h1.request_reader import IncomingRequest, RequestReader

# What one read may hold is parsed in slices, so that a flood of pipelined requests is left unparsed. A body
# of 64 KiB fits into one with its head, and is then passed on in one piece.
MAX_FEED_BYTES = 96 * 1024
MAX_WAITING_REQUESTS = 16


class RequestQueue:
    """Reading stops while too many requests wait, and while a body's consumer is behind (a `BodySource`)."""

    __slots__ = ("_body_paused", "_reading_paused", "_transport", "_unparsed", "_waiting", "reader")

    def __init__(self, config: HttpConnectionManager) -> None:
        self.reader = RequestReader(
            self,
            max_headers_bytes=config.max_request_headers_bytes,
            max_headers_count=config.max_headers_count,
            allow_absolute_url=config.allow_absolute_url,
        )
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[IncomingRequest] = deque()
        self._unparsed = memoryview(b"")
        self._body_paused = False
        self._reading_paused = False

    def open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def lose(self) -> None:
        self._transport = None
        self._clear()

    def feed(self, data: bytes) -> None:
        if len(data) <= MAX_FEED_BYTES and not self._unparsed:
            self._waiting.extend(self.reader.feed(data))
            if self.reader.unread or len(self._waiting) > MAX_WAITING_REQUESTS:
                self._unparsed = memoryview(self.reader.unread)
                self._choose_reading()
        else:
            self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
            self._parse()

    def next(self) -> IncomingRequest | None:
        """The request whose turn it is, if it is here."""
        if not self._waiting:
            return None
        incoming = self._waiting.popleft()
        if self._unparsed or self._reading_paused:
            self._parse()
        return incoming

    def close(self) -> None:
        """What waits is not served, and what still comes is not read; a tunnel's other end is told."""
        self._clear()
        self.reader.feed_eof()
        self.resume_body()

    def _clear(self) -> None:
        self._waiting.clear()
        self._unparsed = memoryview(b"")

    def __bool__(self) -> bool:
        return bool(self._waiting)

    # BodySource: the request's body is read by somebody slow, or not at all.

    def pause_body(self) -> None:
        self._body_paused = True
        self._choose_reading()

    def resume_body(self) -> None:
        self._body_paused = False
        self._choose_reading()

    def abandon_body(self) -> None:
        self.resume_body()

    def _parse(self) -> None:
        """As much of what was read as may wait to be served: something is left only where too much waits."""
        while self._unparsed and len(self._waiting) <= MAX_WAITING_REQUESTS:
            piece, self._unparsed = self._unparsed[:MAX_FEED_BYTES], self._unparsed[MAX_FEED_BYTES:]
            self._waiting.extend(self.reader.feed(piece))
            if self.reader.unread:
                self._unparsed = memoryview(self.reader.unread + bytes(self._unparsed))
        if not self._unparsed:
            self._unparsed = memoryview(b"")  # else an idle connection would hold what it has read last
        self._choose_reading()

    def _choose_reading(self) -> None:
        paused = self._body_paused or bool(self._unparsed) or len(self._waiting) > MAX_WAITING_REQUESTS
        if paused is not self._reading_paused and self._transport is not None:
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
