"""The chunked transfer coding (RFC 9112 7.1), from the first chunk to the empty line behind the trailers.

A chunk's line is its size in hexadecimal digits, and extensions. Spaces and tabs are accepted after the size,
around ``;`` and ``=``, and at the end, because some servers pad the size; an extension may lack its name, and
its value may be a token and a quoted string, as llhttp and Envoy accept them. Everything else is refused, so
that no other parser can see other chunks: white space before the size or within it, signs, ``0x``, other
control characters, and a CR or an LF that does not end the line. A trailer's line is as strict as llhttp is
about the lines of a head.
"""

from __future__ import annotations

import re

from sidecar.errors import RequestError
from sidecar.http.h1.rules import ReaderRules, printable
from sidecar.http.headers import Headers

_HEX = b"0123456789abcdefABCDEF"
_MAX_SIZE = 2**63 - 1
_LF = 10
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
# Possessive: no part gives back what it has matched, so that a line is scanned once.
_VALUE = rb"(?>" + _TOKEN + rb")?+(?>" + _QUOTED + rb")?+"
_EXTENSION = rb"[ \t]*+;[ \t]*+(?>" + _TOKEN + rb")?+(?>[ \t]*+=[ \t]*+" + _VALUE + rb")?+"
_LINE = re.compile(rb"([0-9A-Fa-f]++)(?>" + _EXTENSION + rb")*+[ \t]*+")
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*+)")
# RFC 9110 6.5.1: a trailer cannot say how the message is framed.
_NO_TRAILERS = frozenset((b"content-length", b"transfer-encoding"))


def part(data: bytes, start: int, end: int) -> bytes:
    """``data[start:end]``, without a copy of all of `data`, which compiled code would make."""
    return data if start == 0 and end >= len(data) else data[start:end]


class ChunkDecoder:
    """Decodes one body. `trailers` is complete when the body has `ended`.

    Lines are bounded together: extensions since the last byte of the body, and all trailers.
    """

    __slots__ = ("_left", "_line", "_line_bytes", "_rules", "_trailing", "_within", "ended", "trailers")

    def __init__(self, rules: ReaderRules) -> None:
        self.ended = False
        self.trailers: Headers = []
        self._rules = rules
        self._left = 0  # missing bytes of the current chunk's data
        self._within = False  # whether the line end behind a chunk's data is missing
        self._trailing = False  # whether the last chunk was read
        self._line = b""  # the beginning of an incomplete line
        self._line_bytes = 0  # of lines since the last byte of the body

    def feed(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Reads `data` from `at` and appends the bytes of the body to `pieces`. Returns the position behind
        the last byte read: the end of `data`, or of the body. Raises the error that `rules` name."""
        size, left = len(data), self._left
        while at < size and not self.ended:
            if left:
                piece = part(data, at, at + left)
                pieces.append(piece)
                at += len(piece)
                left -= len(piece)
                self._line_bytes = 0
                if left or at == size:
                    break
                if data[at : at + 2] == b"\r\n":  # usually the chunk's end arrives with its data
                    self._within = False
                    at += 2
                    continue
            end = data.find(b"\n", at) + 1 or size
            line = data[at:end]
            at = end
            self._line_bytes += len(line)
            if self._line_bytes > self._rules.max_headers_bytes:
                raise self._too_long()
            if self._line:
                line = self._line + line
            if line[-1] != _LF:
                self._line = line
                self._check_beginning(line)
                break
            self._line = b""
            left = self._read_line(line)
        self._left = left
        return at

    def _read_line(self, line: bytes) -> int:
        """Returns the number of bytes of a chunk's data that follow."""
        content = line[:-2]
        if line[-2:] != b"\r\n":
            raise self._malformed(line)
        if self._trailing:
            self._read_trailer(content)
            return 0
        if self._within:  # RFC 9112 7.1: the line end behind the data of a chunk
            if content:
                raise self._malformed(line)
            self._within = False
            return 0
        if not content or content.translate(None, _HEX):  # not digits alone
            match = _LINE.fullmatch(content)
            if match is None:
                raise self._malformed(line)
            content = match[1]
        size = int(content, 16)
        if size > _MAX_SIZE:
            raise self._rules.malformed(f"invalid chunk size {printable(content)}")
        self._within = size > 0
        self._trailing = size == 0
        return size

    def _read_trailer(self, content: bytes) -> None:
        if not content:
            self.ended = True
            return
        match = _TRAILER.fullmatch(content)
        name = match[1].lower() if match is not None else b""
        if match is None or name in _NO_TRAILERS:
            raise self._rules.malformed(f"malformed HTTP/1.1: {printable(content)} in the trailers")
        limit = self._rules.max_headers_count
        if len(self.trailers) >= limit:  # a small field costs much more memory than its bytes
            raise self._rules.too_large(f"more than {limit} headers in the trailers")
        self.trailers.append((name, match[2].strip()))

    def _too_long(self) -> RequestError:
        limit = self._rules.max_headers_bytes
        return self._rules.too_large(f"more than {limit} bytes of trailers or chunk extensions")

    def _check_beginning(self, line: bytes) -> None:
        """Refuses a line as soon as its beginning is invalid."""
        if self._trailing:
            return
        fits = line == b"\r" if self._within else line[:1] in _HEX
        if not fits:
            raise self._malformed(line)

    def _malformed(self, line: bytes) -> RequestError:
        return self._rules.malformed(f"malformed HTTP/1.1: {printable(line)} at the start or end of a chunk")
