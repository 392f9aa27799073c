"""The chunks of a body (RFC 9112 7.1). llhttp reads those that come with their head, unless they have white
space that recipients must take; it does not know that.

A chunk's line is its size in hexadecimal digits, and extensions. Spaces and tabs are taken after the size,
around ``;`` and ``=``, and at the end: some servers pad the size. An extension may lack its name, and its
value be a token and a quoted string, as llhttp has it: what is taken must not depend on who of both reads it.
Everything else is refused, so that no other parser can see another chunk: white space before the size or
within it, signs, ``0x``, other control characters, and a CR or an LF that is not the line's end.
"""

from __future__ import annotations

import re

from sidecar.errors import DownstreamProtocolError, RequestError
from sidecar.http.h1.rules import printable

_HEX = b"0123456789abcdefABCDEF"
_MAX_SIZE = 2**63 - 1
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
# No part gives back what it has taken: a line is read once, however it is made.
_VALUE = rb"(?>" + _TOKEN + rb")?+(?>" + _QUOTED + rb")?+"
_EXTENSION = rb"[ \t]*+;[ \t]*+(?>" + _TOKEN + rb")?+(?>[ \t]*+=[ \t]*+" + _VALUE + rb")?+"
_LINE = re.compile(rb"([0-9A-Fa-f]++)(?>" + _EXTENSION + rb")*+[ \t]*+")


class ChunkDecoder:
    """Of one body, to its last chunk; what follows, trailers or the empty line, is not its own."""

    __slots__ = ("_error", "_left", "_line", "_within", "ended")

    def __init__(self, error: type[RequestError]) -> None:
        """`error` is raised for bytes that are not a valid chunk."""
        self.ended = False
        self._error = error
        self._left = 0  # of the present chunk's data
        self._within = False  # a chunk, whose end has not come yet
        self._line = b""  # of which the rest is still to come

    def feed(self, data: bytes, pieces: list[bytes]) -> int:
        """Appends what there is of the body to `pieces`. Returns how much of `data` was read: all, or up to
        the end of the last chunk's line."""
        at, size, left = 0, len(data), self._left
        while at < size:
            if left:
                piece = data[at : at + left]
                pieces.append(piece)
                at += len(piece)
                left -= len(piece)
                if left or at == size:
                    break
                if data[at : at + 2] == b"\r\n":  # as is usual, the chunk's end came with it
                    self._within = False
                    at += 2
                    continue
            end = data.find(b"\n", at) + 1
            if not end:
                self._line += data[at:]
                self._check_beginning(self._line)
                at = size
                break
            left = self._read_line(self._line + data[at:end])
            self._line = b""
            at = end
            if self.ended:
                break
        self._left = left
        return at

    def _read_line(self, line: bytes) -> int:
        """How much of a chunk's data follows."""
        digits = line[:-2]
        if line[-2:] != b"\r\n":
            raise self._malformed(line)
        if self._within:  # RFC 9112 7.1: the line's end behind the data of a chunk
            if digits:
                raise self._malformed(line)
            self._within = False
            return 0
        if not digits or digits.translate(None, _HEX):
            match = _LINE.fullmatch(digits)
            if match is None:
                raise self._malformed(line)
            digits = match[1]
        size = int(digits, 16)
        if size > _MAX_SIZE:
            raise self._error(f"a chunk of size {printable(digits)}")
        self._within = size > 0
        self.ended = size == 0
        return size

    def _check_beginning(self, line: bytes) -> None:
        """What can be no chunk's line is not waited for."""
        fits = line == b"\r" if self._within else line[:1] in _HEX
        if not fits:
            raise self._malformed(line)

    def _malformed(self, line: bytes) -> RequestError:
        return self._error(f"malformed HTTP/1.1: {printable(line)} where a chunk begins or ends")


def end_of_head(data: bytes, start: int, *, begun: bool = False) -> int:
    """Where the head ends that begins at `start`, or after empty lines there (RFC 9112 2.2), or which has
    `begun` already. Raises `ValueError` if it does not end."""
    while not begun and data[start : start + 1] in (b"\r", b"\n"):
        start += 1
    return data.index(b"\r\n\r\n", start) + 4


def end_of_chunks(data: bytes, start: int) -> int:
    """Where a whole body in chunks that begins at `start` ends, trailers included. Raises `ValueError` if it
    does not end."""
    decoder = ChunkDecoder(DownstreamProtocolError)
    try:
        end = start + decoder.feed(data[start:], [])
    except DownstreamProtocolError as error:
        raise ValueError(str(error)) from error
    return data.index(b"\r\n\r\n", end - 2) + 4  # the empty line, or trailers and then it
