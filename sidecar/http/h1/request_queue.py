"""The input of a server's connection: parses requests, which wait in a bounded queue."""

from __future__ import annotations

import asyncio
from collections import deque

from sidecar.config.listener import HttpConnectionManager
from sidecar.http.h1.request_reader import IncomingRequest, RequestReader
from sidecar.transport.bulk_reader import BulkReader, StreamProtocol

MAX_WAITING_REQUESTS = 16


class RequestQueue:
    """Pauses reading while too many requests wait, and while the consumer of a body is slow
    (`BodySource`)."""

    __slots__ = (
        "_at",
        "_body_paused",
        "_bulk",
        "_data",
        "_protocol",
        "_reading_paused",
        "_transport",
        "reader",
        "waiting",
    )

    def __init__(self, config: HttpConnectionManager, protocol: StreamProtocol) -> None:
        self._protocol: StreamProtocol | None = protocol
        self.reader = RequestReader(
            self,
            max_headers_bytes=config.max_request_headers_bytes,
            max_headers_count=config.max_headers_count,
            allow_absolute_url=config.allow_absolute_url,
        )
        self._transport: asyncio.Transport | None = None
        self._bulk: BulkReader | None = None  # made when the first large body arrives
        self.waiting: deque[IncomingRequest] = deque()
        self._data = b""  # read but not parsed yet, from `_at` on
        self._at = 0
        self._body_paused = False
        self._reading_paused = False

    def open(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def lose(self) -> None:
        """The connection is lost. Forgets its codec, which has this object: that is a cycle."""
        self._transport = None
        self._protocol = None
        self._bulk = None
        self.reader.lose_source()
        self._clear()

    def feed(self, data: bytes) -> None:
        self._feed(data)
        if self.reader.message is not None or self._bulk is not None:
            self._choose_buffer(len(data))

    def _choose_buffer(self, size: int) -> None:
        """Large bodies are read without copies."""
        if not self.reader.expects_bulk(size):
            if self._bulk is not None and self.reader.message is None:
                self._bulk.stop()
        elif self._transport is not None and self._protocol is not None:
            if self._bulk is None:
                self._bulk = BulkReader(self._protocol, self._transport)
            self._bulk.start()

    def _feed(self, data: bytes) -> None:
        if self._data:
            self._data = self._data[self._at :] + data
            self._at = 0
            self._parse()
            return
        reader = self.reader
        self.waiting.extend(reader.feed(data))
        if reader.stopped_at < len(data) or len(self.waiting) > MAX_WAITING_REQUESTS:
            self._keep(data)
            self._choose_reading()

    def next(self) -> IncomingRequest | None:
        """Returns the next request, or None if it has not arrived."""
        if not self.waiting:
            return None
        incoming = self.waiting.popleft()
        if self._data or self._reading_paused:
            self._parse()
        return incoming

    def close(self) -> None:
        """Drops the waiting requests, parses no more data, and ends the client's direction of a tunnel."""
        self._clear()
        self.reader.feed_eof()
        self.resume_body()

    def _clear(self) -> None:
        self.waiting.clear()
        self._data = b""

    # BodySource: called when the request's body is read slowly, or not at all.

    def pause_body(self) -> None:
        self._body_paused = True
        self._choose_reading()

    def resume_body(self) -> None:
        self._body_paused = False
        self._choose_reading()

    def abandon_body(self) -> None:
        self.resume_body()

    def _parse(self) -> None:
        """Parses the kept data until the queue is full."""
        while self._data and len(self.waiting) <= MAX_WAITING_REQUESTS:
            data = self._data
            self.waiting.extend(self.reader.feed(data, self._at))
            self._keep(data)
        self._choose_reading()

    def _keep(self, data: bytes) -> None:
        """Keeps the part of `data` that the reader has not read."""
        self._at = self.reader.stopped_at
        self._data = data if self._at < len(data) else b""

    def _choose_reading(self) -> None:
        paused = self._body_paused or bool(self._data) or len(self.waiting) > MAX_WAITING_REQUESTS
        if paused is not self._reading_paused and self._transport is not None:
            self._reading_paused = paused
            if paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
