from __future__ import annotations

from base64 import b64decode, b64encode

import pytest

from sidecar.errors import GrpcWebEncodingError, GrpcWebSizeError
from sidecar.filters.grpc_web_bodies import DecodedBody, EncodedBody, decode_text
from sidecar.http.body import BodyStream
from sidecar.http.headers import Headers
from sidecar.observability.grpc_call import GrpcCall, MessageCounter
from tests.support.bodies import received

SIZES = [1, 2, 3, 4, 5, 7, 16, 1000]
TRAILERS: Headers = [(b"grpc-status", b"5"), (b"grpc-message", b"no")]
TRAILERS_FRAME = b"\x80\x00\x00\x00\x20grpc-status:5\r\ngrpc-message:no\r\n"


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


CONTENT = message(b"hello") + message(b"") + message(b"x" * 50)


def passed(wrapper: DecodedBody | EncodedBody, source: BodyStream, data: bytes, size: int) -> list[bytes]:
    """The bytes that can be read after each piece."""
    pieces = []
    for at in range(0, len(data), size):
        source.feed(data[at : at + size])
        pieces.append(received(wrapper))
    return pieces


def decoded_parts(text: bytes) -> bytes:
    """Of base64 whose parts may have their own padding."""
    return b"".join(b64decode(text[at : at + 4], validate=True) for at in range(0, len(text), 4))


@pytest.mark.parametrize("size", SIZES)
def test_a_text_is_decoded_however_it_is_cut(size: int) -> None:
    source = BodyStream()
    body = DecodedBody(source)
    counter = MessageCounter()
    body.count_messages(counter)
    pieces = passed(body, source, b64encode(CONTENT), size)
    source.feed_end()
    assert b"".join(pieces) + received(body) == CONTENT
    assert counter.count == 3


def test_parts_of_a_text_may_have_their_own_padding() -> None:
    assert decode_text(b64encode(b"a") + b64encode(b"bc") + b64encode(b"def")) == b"abcdef"


@pytest.mark.parametrize("text", [b"AAA*", b"====", b"A===", b"AA=A", b"AAAA\nAAA"])
def test_a_text_that_is_no_base64_is_refused(text: bytes) -> None:
    with pytest.raises(GrpcWebEncodingError):
        decode_text(text)


@pytest.mark.parametrize("size", [1, 100])
def test_a_text_that_ends_too_early_is_refused(size: int) -> None:
    source = BodyStream()
    body = DecodedBody(source)
    passed(body, source, b"AAAAA", size)
    source.feed_end()
    with pytest.raises(GrpcWebSizeError):
        received(body)


@pytest.mark.parametrize("size", SIZES)
def test_the_trailers_are_the_last_frame(size: int) -> None:
    source, call = BodyStream(), GrpcCall(over_web=True)
    body = EncodedBody(source, call, as_text=False)
    pieces = passed(body, source, CONTENT, size)
    source.feed_end(TRAILERS)
    assert b"".join(pieces) + received(body) == CONTENT + TRAILERS_FRAME
    assert body.trailers == []
    assert call.status == 5


@pytest.mark.parametrize("size", SIZES)
def test_a_text_is_encoded_however_it_is_cut(size: int) -> None:
    source = BodyStream()
    body = EncodedBody(source, None, as_text=True)
    pieces = passed(body, source, CONTENT, size)
    assert decoded_parts(b"".join(pieces)) == CONTENT, "no message waits for the next one"
    source.feed_end(TRAILERS)
    assert decoded_parts(received(body)) == TRAILERS_FRAME


def test_of_a_large_message_nothing_but_two_bytes_waits() -> None:
    source = BodyStream()
    body = EncodedBody(source, None, as_text=True)
    source.feed(b"\0\0\1\0\0" + b"x" * 995)
    assert len(decoded_parts(received(body))) == 999


def test_a_response_without_trailers_gets_no_frame() -> None:
    source = BodyStream()
    body = EncodedBody(source, None, as_text=False)
    source.feed(CONTENT)
    source.feed_end()
    assert received(body) == CONTENT


def test_a_message_that_is_cut_short_is_passed_on() -> None:
    source = BodyStream()
    body = EncodedBody(source, None, as_text=True)
    source.feed(b"\0\0\0\0\5hi")
    source.feed_end()
    assert b64decode(received(body)) == b"\0\0\0\0\5hi"
