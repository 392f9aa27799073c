"""Fetches one page of metrics from another process of the pod, as a body that streams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from sidecar.application.connection import open_http
from sidecar.application.http_client import local_request
from sidecar.application.metrics_format import (
    END_OF_OPEN_METRICS,
    OPEN_METRICS,
    merged_type,
    passed_on,
    scrape_timeout_s,
)
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import RequestError
from sidecar.http.body import Body
from sidecar.http.headers import Headers, get_header
from sidecar.upstream.connection import ClientConnection

_LOG = logging.getLogger(__name__)

# Prometheus still needs time for the rest of the page.
_SHARE_OF_TIMEOUT: Final = 0.9
_MOST_AT_ONCE: Final = 8
_MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
_MAX_LINE_BYTES: Final = 256 * 1024


class ScrapeError(Exception):
    """The page cannot be fetched, or not all of it. The message is the reason."""


class ScrapeTarget:
    """A process of the pod that serves metrics. ``kind`` is Istio's name of it: ``application``, ``envoy``.
    `failures` counts the scrapes that failed, or were cut short."""

    def __init__(self, kind: str, address: SocketAddress, path: str) -> None:
        self.kind = kind
        self.failures = 0
        self._address = address
        self._path = path
        self._active = 0

    async def fetch(self, headers: Headers, query: str = "") -> ScrapedPage | None:
        """The page, whose head has arrived; None after a failure, which is counted and logged. ``headers``
        are those of the scrape."""
        if self._active >= _MOST_AT_ONCE:
            self._failed(f"{_MOST_AT_ONCE} scrapes are active already")
            return None
        self._active += 1
        deadline_s = asyncio.get_running_loop().time() + scrape_timeout_s(headers) * _SHARE_OF_TIMEOUT
        try:
            async with asyncio.timeout_at(deadline_s):
                connection = await open_http(self._address, None)
                try:
                    return await self._page(connection, headers, query, deadline_s)
                except BaseException:
                    connection.close()
                    raise
        except (OSError, RequestError, ScrapeError) as error:
            self._failed("no answer in time" if isinstance(error, TimeoutError) else str(error))
            return None
        finally:
            self._active -= 1

    async def _page(
        self, connection: ClientConnection, headers: Headers, query: str, deadline_s: float
    ) -> ScrapedPage:
        path = f"{self._path}{'&' if '?' in self._path else '?'}{query}" if query else self._path
        response = await connection.send(local_request(self._address, path, passed_on(headers)))
        if response.status != 200:
            raise ScrapeError(f"status {response.status}")
        received_type = (get_header(response.headers, b"content-type") or b"").decode("latin-1")
        content_type = merged_type(received_type)
        if content_type is None:
            raise ScrapeError(f"the content type {received_type!r:.100} cannot be merged")
        self._active += 1
        return ScrapedPage(connection, response.body, content_type, deadline_s, self._page_ended)

    def _page_ended(self, reason: str) -> None:
        self._active -= 1
        if reason:
            self._failed(f"the page is cut short: {reason}")

    def _failed(self, reason: str) -> None:
        self.failures += 1
        _LOG.warning(
            "the metrics of the %s at %s%s are missing: %s", self.kind, self._address, self._path, reason
        )


class ScrapedPage:
    """Whole lines only: a page that is cut short ends after a line, so that the scrape stays valid."""

    __slots__ = ("_body", "_connection", "_deadline_s", "_left", "_line", "_on_end", "content_type")

    def __init__(
        self,
        connection: ClientConnection,
        body: Body,
        content_type: bytes,
        deadline_s: float,
        on_end: Callable[[str], None],
    ) -> None:
        """``on_end`` is called once, with the reason if the page is cut short."""
        self.content_type = content_type
        self._connection: ClientConnection | None = connection
        self._body = body
        self._deadline_s = deadline_s
        self._on_end = on_end
        self._left = _MAX_PAGE_BYTES
        self._line = b""  # the last one, which has not ended yet

    @property
    def ended(self) -> bool:
        return self._connection is None

    async def read(self) -> bytes:
        while self._connection is not None:
            try:
                async with asyncio.timeout_at(self._deadline_s):
                    data = await self._body.read()
                lines = self._lines(data)
            except (TimeoutError, RequestError, ScrapeError) as error:
                self._end("no answer in time" if isinstance(error, TimeoutError) else str(error))
                return END_OF_OPEN_METRICS if self.content_type.startswith(OPEN_METRICS.encode()) else b""
            if not data:
                self._end("")
            if lines:
                return lines
        return b""

    def _lines(self, data: bytes) -> bytes:
        """The lines that ``data`` completes; at the end, the last one too. Raises `ScrapeError`."""
        if not data:
            return self._line + b"\n" if self._line else b""
        self._left -= len(data)
        if self._left < 0:
            raise ScrapeError(f"it is larger than {_MAX_PAGE_BYTES} bytes")
        lines, newline, line = (self._line + data).rpartition(b"\n")
        if len(line) > _MAX_LINE_BYTES:
            raise ScrapeError(f"a line is longer than {_MAX_LINE_BYTES} bytes")
        self._line = line
        return lines + newline

    def close(self) -> None:
        if self._connection is not None:
            self._end("")

    def _end(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        self._body.close()
        connection.close()
        self._on_end(reason)
