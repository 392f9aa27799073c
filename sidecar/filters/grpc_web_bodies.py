"""The contents of gRPC-Web: base64 in pieces, and trailers as the last frame of the content.

Source: gRPC's ``PROTOCOL-WEB.md``. Both directions are streamed: at most three characters of a request, and
two bytes of a response, wait for the next piece.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from typing import Final

from sidecar.errors import GrpcWebEncodingError, GrpcWebSizeError
from sidecar.grpc_status import find_grpc_status
from sidecar.http.body import Body, WrappedBody
from sidecar.http.headers import Headers
from sidecar.observability.grpc_call import GrpcCall, MessageCounter

_TRAILERS_FRAME: Final = b"\x80"


def decode_text(text: bytes) -> bytes:
    """Decodes base64, whose parts may have their own padding. Raises `GrpcWebEncodingError`."""
    if len(text) % 4:
        raise GrpcWebSizeError("the length of the base64 content is no multiple of 4")
    parts: list[bytes] = []
    at = 0
    try:
        while (padding := text.find(b"=", at)) >= 0:
            end = padding // 4 * 4 + 4
            parts.append(a2b_base64(text[at:end], strict_mode=True))
            at = end
        parts.append(a2b_base64(text[at:], strict_mode=True))
    except Error as error:
        raise GrpcWebEncodingError("the content is no base64") from error
    return b"".join(parts)


def encode_text(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


class DecodedBody(WrappedBody):
    """The bytes of a request whose content is base64."""

    __slots__ = ("_counter", "_rest")

    def __init__(self, source: Body) -> None:
        super().__init__(source)
        self._rest = b""
        self._counter: MessageCounter | None = None

    def count_messages(self, counter: MessageCounter) -> None:
        self._counter = counter

    async def read(self) -> bytes:
        while text := await self._source.read():
            text = self._rest + text
            size = len(text) & -4
            self._rest = text[size:]
            if size:
                data = decode_text(text[:size])
                if self._counter is not None:
                    self._counter.feed(data)
                return data
        decode_text(self._rest)
        return b""


class EncodedBody(WrappedBody):
    """The content of a response, and its trailers as the last frame, whose status `call` gets. A text is
    padded at the end of a message, so that no byte of it waits for the next one."""

    __slots__ = ("_as_text", "_at_end", "_call", "_frames", "_rest")

    def __init__(self, source: Body, call: GrpcCall | None, *, as_text: bool) -> None:
        super().__init__(source)
        self._call = call
        self._as_text = as_text
        self._frames = MessageCounter()
        self._rest = b""
        self._at_end = False

    @property
    def trailers(self) -> Headers:
        """None: they are in the content."""
        return []

    @trailers.setter
    def trailers(self, trailers: Headers) -> None:
        self._source.trailers = trailers

    async def read(self) -> bytes:
        while not self._at_end:
            data = await self._source.read()
            if not data:
                self._at_end = True
                data = self._trailers_frame()
            if not self._as_text:
                return data
            if encoded := self._encode(data):
                return encoded
        return b""

    def _encode(self, data: bytes) -> bytes:
        self._frames.feed(data)
        data = self._rest + data
        whole = self._at_end or self._frames.at_boundary
        size = len(data) if whole else len(data) // 3 * 3
        self._rest = data[size:]
        return encode_text(data[:size])

    def _trailers_frame(self) -> bytes:
        trailers = self._source.trailers
        if not trailers:
            return b""
        if self._call is not None:
            self._call.status = find_grpc_status(trailers)
        lines = b"".join([b"%b:%b\r\n" % field for field in trailers])
        return b"%b%b%b" % (_TRAILERS_FRAME, len(lines).to_bytes(4, "big"), lines)
