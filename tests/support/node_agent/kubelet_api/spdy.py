"""The part of SPDY/3.1 that Kubernetes' port forwarding uses, for the side that accepts streams. No I/O.

https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/ section 2: the client opens streams with
headers, both sides send data, and each ends its direction with the flag FIN. Kubernetes has no flow control.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum

CONTROL = 0x8000
VERSION = 3
FIN = 1
HEADER_BYTES = 8

# Section 2.6.10.1: words with their lengths in front, then text as it is.
_WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age
allow authorization cache-control connection content-base content-encoding content-language content-length
content-location content-md5 content-range content-type date etag expect expires from host if-match
if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma
proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade
user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie
keep-alive origin
"""
_TEXT = (
    b"1001012012022052063003023033043053063074024054064074084094104114124134144154164175025045052"
    b"03 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _with_length(word: str) -> bytes:
    return len(word).to_bytes(4) + word.encode()


DICTIONARY = b"".join(_with_length(word.replace("_", " ")) for word in _WORDS.split()) + _TEXT


class Frame(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    PING = 6


class SpdyError(Exception):
    """The peer violates the protocol."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The names of headers are in lower case."""

    stream: int
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream: int
    data: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream: int


@dataclass(frozen=True, slots=True)
class Pinged:
    """`answer` is to be sent."""

    answer: bytes


Event = StreamOpened | DataReceived | StreamReset | Pinged


class SpdyReceiver:
    """Frames from bytes. Headers are compressed in one stream for the whole connection."""

    def __init__(self) -> None:
        self._rest = b""
        self._headers = zlib.decompressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> list[Event]:
        """Raises SpdyError."""
        self._rest += data
        events: list[Event] = []
        while len(self._rest) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._rest[5:8])
            if len(self._rest) < end:
                break
            frame, self._rest = self._rest[:end], self._rest[end:]
            events += self._events(frame)
        return events

    def _events(self, frame: bytes) -> list[Event]:
        first, kind = int.from_bytes(frame[:2]), int.from_bytes(frame[2:4])
        flags, body = frame[4], frame[HEADER_BYTES:]
        if not first & CONTROL:
            stream = int.from_bytes(frame[:4])
            return [DataReceived(stream, body, bool(flags & FIN))]
        if first != CONTROL | VERSION:
            raise SpdyError(f"version {first & ~CONTROL} instead of {VERSION}")
        match kind:
            case Frame.SYN_STREAM:
                stream = int.from_bytes(body[:4])
                opened = StreamOpened(stream, self._read_headers(body[10:]))
                return [opened, *([DataReceived(stream, b"", is_last=True)] if flags & FIN else [])]
            case Frame.RST_STREAM:
                return [StreamReset(int.from_bytes(body[:4]))]
            case Frame.PING:
                return [Pinged(frame)]
        return []  # SETTINGS, GOAWAY, WINDOW_UPDATE: the connection's end comes by itself

    def _read_headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._headers.decompress(block)
        except zlib.error as error:
            raise SpdyError(f"headers: {error}") from error
        words, at = [], 4
        while at < len(text):
            length = int.from_bytes(text[at : at + 4])
            words.append(text[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=True)}


class SpdySender:
    """Frames to bytes."""

    def __init__(self) -> None:
        self._headers = zlib.compressobj(zdict=DICTIONARY)

    def reply(self, stream: int) -> bytes:
        """The acceptance of a stream, without headers."""
        block = self._headers.compress((0).to_bytes(4)) + self._headers.flush(zlib.Z_SYNC_FLUSH)
        return control(Frame.SYN_REPLY, stream.to_bytes(4) + block)

    def data(self, stream: int, data: bytes, *, is_last: bool = False) -> bytes:
        return stream.to_bytes(4) + bytes([FIN if is_last else 0]) + len(data).to_bytes(3) + data


def control(kind: Frame, body: bytes) -> bytes:
    return (CONTROL | VERSION).to_bytes(2) + kind.to_bytes(2) + b"\0" + len(body).to_bytes(3) + body
