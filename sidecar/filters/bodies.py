"""Helpers for the bodies of messages: change the bytes, buffer them, or observe the end of a body.

A filter replaces the message's body by the result. Trailers, backpressure and the end of the body pass
through. A filter that changes the length of a body need not change ``content-length``: the codec generates
the framing.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.errors import PayloadTooLargeError
from sidecar.http.body import Body, WrappedBody
from sidecar.http.headers import Headers


class _MappedBody(WrappedBody):
    __slots__ = ("_function",)

    def __init__(self, source: Body, function: Callable[[bytes], bytes]) -> None:
        super().__init__(source)
        self._function = function

    async def read(self) -> bytes:
        while piece := await self._source.read():
            if mapped := self._function(piece):
                return mapped
        return b""


class _BufferedBody(Body):
    """All bytes, followed by trailers."""

    __slots__ = ("_left", "_trailers")

    def __init__(self, data: bytes, trailers: Headers) -> None:
        super().__init__(None)
        self._left = data
        self._trailers = trailers

    @property
    def trailers(self) -> Headers:
        return self._trailers

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._trailers = trailers

    async def read(self) -> bytes:
        data, self._left = self._left, b""
        return data


class _ObservedBody(WrappedBody):
    __slots__ = ("_call",)

    def __init__(self, source: Body, call: Callable[[], None]) -> None:
        super().__init__(source)
        self._call: Callable[[], None] | None = call

    @property
    def as_long_as(self) -> Body:
        return self._source.as_long_as

    async def read(self) -> bytes:
        try:
            piece = await self._source.read()
        except BaseException:
            self._end()
            raise
        if not piece:
            self._end()
        return piece

    def close(self) -> None:
        self._source.close()
        self._end()

    def _end(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


def map_body(body: Body, function: Callable[[bytes], bytes]) -> Body:
    """Returns a body with the result of `function` for each piece. A piece has at least one byte; an empty
    result is left out."""
    if body.whole is None:
        return _MappedBody(body, function)
    return Body(function(body.whole)) if body.whole else body


async def buffer(body: Body, limit_bytes: int) -> tuple[bytes, Body]:
    """Waits for the end of `body`. Returns its bytes, and the body that replaces it.

    Raises `PayloadTooLargeError` (413) if there are more than `limit_bytes`, and the error that cut the body
    short."""
    data = body.whole
    if data is None:
        data = await _read_within(body, limit_bytes)
        body = _BufferedBody(data, body.trailers) if body.trailers else Body(data)
    if len(data) > limit_bytes:
        raise _too_large(limit_bytes)
    return data, body


async def _read_within(body: Body, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await body.read():
        size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def _too_large(limit_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the content is longer than {limit_bytes} bytes")


def on_end(body: Body, call: Callable[[], None]) -> Body:
    """Returns the same body, and calls `call` once: when all of it was read, when it fails, or when it is
    closed early. For a body that is already complete, it is called at once."""
    if body.whole is None:
        return _ObservedBody(body, call)
    call()
    return body
