"""The client's part of SPDY/3.1."""

from __future__ import annotations

import struct
import zlib

import pytest

from outrigger.cluster.spdy import Data, Ping, Receiver, Sender, SpdyError

PING = bytes.fromhex("80030006 00000004 00000002")
# The peer's reply to a stream, and its settings: they need no action.
REPLY = bytes.fromhex("80030002 00000004 00000003")
SETTINGS = bytes.fromhex("80030004 00000004 00000000")


def test_frames_are_parsed_however_they_are_divided() -> None:
    data = struct.pack(">II", 3, 5) + b"hello"
    last = struct.pack(">II", 3, 1 << 24 | 1) + b"!"
    reset = struct.pack(">IIII", 0x80030003, 8, 1, 5)
    wire = REPLY + SETTINGS + data + PING + reset + last
    expected = [
        Data(3, b"hello", ended=False),
        Ping(PING),
        Data(1, b"", ended=True),
        Data(3, b"!", ended=True),
    ]
    for size in (1, 3, len(wire)):
        receiver = Receiver()
        chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
        assert [event for chunk in chunks for event in receiver.receive(chunk)] == expected


def test_another_protocol_is_refused() -> None:
    with pytest.raises(SpdyError, match="the version of a frame is 2"):
        list(Receiver().receive(bytes.fromhex("80020006 00000000")))


def test_header_blocks_are_one_compressed_stream() -> None:
    sender, inflate = Sender(), zlib.decompressobj()
    for stream, ended in ((1, True), (3, False)):
        frame = sender.open(stream, {"port": "80"}, ended=ended)
        first, second = struct.unpack_from(">II", frame)
        assert (first, second >> 24, second & 0xFFFFFF) == (0x80030001, int(ended), len(frame) - 8)
        assert struct.unpack_from(">I", frame, 8) == (stream,)
        block = inflate.decompress(frame[18:])
        assert block == struct.pack(">II", 1, 4) + b"port" + struct.pack(">I", 2) + b"80"
