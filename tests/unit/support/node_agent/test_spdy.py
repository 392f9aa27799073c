"""SPDY frames from and to bytes."""

from __future__ import annotations

import zlib

import pytest

from tests.support.node_agent.kubelet_api.spdy import (
    DICTIONARY,
    DataReceived,
    Pinged,
    SpdyError,
    SpdyReceiver,
    SpdySender,
    StreamOpened,
    StreamReset,
)

PING = bytes.fromhex("80030006 00000004 00000007")
RESET = bytes.fromhex("80030003 00000008 00000005 00000005")
GO_AWAY = bytes.fromhex("80030007 00000008 00000005 00000000")


class Client:
    """Its headers are compressed in one stream, as `github.com/moby/spdystream` does it."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def open(self, stream: int, headers: dict[str, str], *, flags: int = 0) -> bytes:
        words = [word for pair in headers.items() for word in pair]
        text = len(headers).to_bytes(4) + b"".join(len(word).to_bytes(4) + word.encode() for word in words)
        block = self._compressor.compress(text) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        body = stream.to_bytes(4) + bytes(6) + block
        return bytes.fromhex("80030001") + bytes([flags]) + len(body).to_bytes(3) + body


def test_streams_are_opened_with_headers_that_share_one_compression() -> None:
    client, receiver = Client(), SpdyReceiver()
    headers = {"streamtype": "error", "port": "8080", "requestid": "0"}
    first = client.open(1, {"Streamtype": "error", "Port": "8080", "Requestid": "0"}, flags=1)
    assert receiver.receive(first) == [StreamOpened(1, headers), DataReceived(1, b"", is_last=True)]
    assert receiver.receive(client.open(3, headers)) == [StreamOpened(3, headers)]


def test_frames_may_come_in_any_pieces() -> None:
    sender, receiver = SpdySender(), SpdyReceiver()
    frames = sender.data(3, b"text") + PING + RESET + GO_AWAY + sender.data(3, b"", is_last=True)
    events = [event for byte in frames for event in receiver.receive(bytes([byte]))]
    assert events == [
        DataReceived(3, b"text", is_last=False),
        Pinged(PING),
        StreamReset(5),
        DataReceived(3, b"", is_last=True),
    ]


def test_a_reply_has_no_headers() -> None:
    reply = SpdySender().reply(3)
    assert reply[:4] == bytes.fromhex("80030002")
    assert reply[8:12] == (3).to_bytes(4)
    assert zlib.decompressobj(zdict=DICTIONARY).decompress(reply[12:]) == bytes(4)


@pytest.mark.parametrize(
    "frame",
    [
        bytes.fromhex("80020006 00000004 00000007"),  # of version 2
        bytes.fromhex("80030001 0000000e 00000001 00000000 0000")
        + b"none",  # headers that are not compressed
    ],
)
def test_invalid_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(SpdyError):
        SpdyReceiver().receive(frame)
