"""Byte sequences that a client may send to an HTTP/2 server, after the preface: valid ones and attacks. The
fuzz mutates them; what it has found is kept here."""

from __future__ import annotations

from tests.support import http2_frames as frames
from tests.support.http2_frames import GET, POST, Heads

_SETTINGS = frames.settings({4: 100_000, 1: 4096}) + frames.settings(ack=True)


def _conversation() -> bytes:
    heads = Heads()
    return b"".join(
        [
            _SETTINGS,
            heads.frames(1, [*GET, (b"accept", b"a"), (b"cookie", b"a=1"), (b"cookie", b"b=2")], end=True),
            heads.frames(3, [*POST, (b"content-length", b"6")]),
            frames.data(3, b"abc"),
            frames.window_update(0, 1000),
            frames.window_update(1, 1000),
            frames.data(3, b"def", end=True, padding=7),
            frames.ping(),
            heads.frames(5, [*POST, (b"te", b"trailers")], split=7),
            frames.raw(2, 0, 5, b"\0\0\0\3\x10"),
            heads.frames(5, [(b"x-checksum", b"abc")], end=True),
            frames.raw(0x99, 0xFF, 5, b"unknown"),
            heads.frames(7, [(b":method", b"CONNECT"), (b":authority", b"a:1")]),
            frames.reset(7),
            frames.goaway(0),
        ]
    )


CORPUS = {
    "a conversation": _conversation(),
    "settings that shrink windows": _SETTINGS
    + Heads().frames(1, GET, end=True)
    + frames.settings({4: 0, 1: 0})
    + frames.settings({4: 2**31 - 1}),
    "a bomb": _SETTINGS + frames.raw(1, 5, 1, b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000),
    "a table that is resized": _SETTINGS
    + frames.raw(1, 5, 1, b"\x20\x3f\xe1\x1f\x82\x86\x84\x41\x01a")
    + frames.raw(1, 5, 3, b"\x82\x86\x84\xbe"),
    "heads in many pieces": _SETTINGS + frames.raw(1, 1, 1, b"\x82") + frames.raw(9, 0, 1, b"\x86") * 5,
    "resets": _SETTINGS + b"".join(Heads().frames(i, GET) + frames.reset(i) for i in range(1, 60, 2)),
    "Huffman codes": _SETTINGS
    + frames.raw(1, 5, 1, b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"),
    "padding only": _SETTINGS + Heads().frames(1, POST) + frames.raw(0, 9, 1, b"\x03\0\0\0"),
}
