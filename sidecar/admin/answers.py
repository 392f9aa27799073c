"""The answers of admin endpoints: text, JSON, a long page in pieces, or an error message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.errors import InternalError, WorkerError
from sidecar.http.body import Body, ReaderBody
from sidecar.http.headers import Headers
from sidecar.http.message import Response

if TYPE_CHECKING:
    import re2

Query = Mapping[str, str]
PieceT = TypeVar("PieceT")
Answer = str | Mapping[str, Any] | Response

TEXT = b"text/plain; charset=UTF-8"
JSON = b"application/json"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"

# Requests on the data path wait for a slice.
SLICE_S = 0.001


class AdminError(Exception):
    """An invalid request, with the reason for the user."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def text(body: str, status: int = 200, content_type: bytes = TEXT) -> Response:
    return Response(status, _headers(content_type), Body(body.encode()))


def json_document(body: Mapping[str, Any]) -> Response:
    return text(json.dumps(body, indent=1) + "\n", content_type=JSON)


Pieces = Iterable[PieceT] | AsyncIterable[PieceT]


def page(pieces: Pieces[str], content_type: bytes = TEXT) -> Response:
    """A page that is generated while it is sent. Each piece must be quick to generate, and may be empty."""
    return Response(200, _headers(content_type), ReaderBody(_SlicedPage(_in_turn(pieces))))


def json_page(key: str, batches: Pieces[Iterable[Mapping[str, Any]]]) -> Response:
    """``{key: [all items of all batches]}``, generated while it is sent."""
    return page(_json_pieces(key, batches), JSON)


async def _json_pieces(key: str, batches: Pieces[Iterable[Mapping[str, Any]]]) -> AsyncIterator[str]:
    separator = f"{{{json.dumps(key)}:["
    async for batch in _in_turn(batches):
        items = ",".join(json.dumps(item, separators=(",", ":")) for item in batch)
        yield separator + items if items else ""
        if items:
            separator = ","
    yield "]}\n" if separator == "," else f"{separator}]}}\n"


async def _in_turn(pieces: Pieces[PieceT]) -> AsyncIterator[PieceT]:
    if isinstance(pieces, AsyncIterable):
        async for piece in pieces:
            yield piece
    else:
        for piece in pieces:
            yield piece


def _headers(content_type: bytes) -> Headers:
    # An admin page changes between requests, and must not be embedded by other pages.
    return [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache, max-age=0"),
        (b"x-content-type-options", b"nosniff"),
    ]


class _SlicedPage:
    """The pieces of a generator. Between slices of `SLICE_S` seconds the event loop serves the traffic. A
    `WorkerError` cuts the page short."""

    __slots__ = ("_ended", "_pieces")

    def __init__(self, pieces: AsyncIterator[str]) -> None:
        self._pieces = pieces
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    async def read(self) -> bytes:
        data = b""
        while not data and not self._ended:
            await asyncio.sleep(0)
            try:
                data = "".join(await self._slice()).encode()
            except WorkerError as error:
                raise InternalError(str(error)) from error
        return data

    async def _slice(self) -> list[str]:
        end_s = time.perf_counter() + SLICE_S
        pieces: list[str] = []
        async for piece in self._pieces:
            pieces.append(piece)
            if time.perf_counter() > end_s:
                return pieces
        self._ended = True
        return pieces

    def close(self) -> None:
        self._ended = True


def wanted_format(query: Query, *formats: str) -> str:
    """The ``format`` parameter; the first of `formats` is the default. Raises `AdminError`."""
    chosen = query.get("format", formats[0])
    if chosen not in formats:
        raise AdminError(f"usage: ?format=({'|'.join(formats)}), not {chosen!r}")
    return chosen


def wanted_names(query: Query) -> re2._Regexp | None:
    """The ``filter`` parameter: an RE2 regex that may match anywhere in a name. Raises `AdminError`."""
    pattern = query.get("filter")
    if pattern is None:
        return None
    import re2  # noqa: PLC0415 - as in `sidecar.regex`

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        (reason,) = error.args
        raise AdminError(f"Invalid re2 regex: {reason.decode()}") from error
