from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.listener.detect import MAX_PEEK_BYTES, RAW, Detection, NeedMore, detect


def hello(server_name: str | None = "reviews.default", alpn: tuple[str, ...] = ()) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("detection", "words"),
    [
        (RAW, "plaintext"),
        (Detection(application_protocols=("http/1.1",)), "plaintext ('http/1.1')"),
        (Detection("tls"), "TLS"),
        (Detection("tls", "a.b", ("istio", "h2\n")), "TLS ('istio', 'h2\\n') for 'a.b'"),
    ],
)
def test_a_detection_as_text(detection: Detection, words: str) -> None:
    assert str(detection) == words


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message, cut into records of ``size`` bytes."""
    body = data[5:]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def sniff(data: bytes) -> Detection | NeedMore:
    return detect(data, tls=True, http=True)


def test_a_client_hello_gives_server_name_and_protocols() -> None:
    assert sniff(hello("Reviews.Default", ("istio", "h2"))) == Detection(
        "tls", "reviews.default", ("istio", "h2")
    )


def test_a_client_hello_without_extensions_of_interest_is_still_tls() -> None:
    assert sniff(hello(None)) == Detection("tls")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_a_client_hello_in_many_records_is_put_together(size: int) -> None:
    data = hello("reviews", ("istio",))
    assert sniff(in_records(data, size)) == sniff(data)


def test_a_client_hello_is_not_looked_at_once_for_each_of_its_records() -> None:
    data = in_records(hello(), 1)
    looks, arrived = 0, 1
    while isinstance(verdict := sniff(data[:arrived]), NeedMore):
        arrived = verdict.size_bytes
        looks += 1
    assert verdict.transport_protocol == "tls"
    assert looks < 60


def test_a_client_hello_of_more_than_may_be_peeked_at_is_raw() -> None:
    large = b"\x01" + (MAX_PEEK_BYTES // 2).to_bytes(3, "big") + bytes(MAX_PEEK_BYTES)
    assert sniff(in_records(bytes(5) + large, 1)[:MAX_PEEK_BYTES]) is RAW


@pytest.mark.parametrize(
    "data",
    [hello(alpn=("istio",)), *(in_records(hello(alpn=("istio",)), size) for size in (1, 3, 100))],
)
def test_every_prefix_of_a_client_hello_asks_for_more_than_it_has_and_never_too_much(data: bytes) -> None:
    for size in range(len(data)):
        verdict = sniff(data[:size])
        assert isinstance(verdict, NeedMore)
        assert size < verdict.size_bytes <= len(data)


def test_bytes_after_the_client_hello_do_not_matter() -> None:
    assert sniff(hello() + b"\x14\x03\x03\x00\x01\x01") == sniff(hello())


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        (b"GET / HTTP/1.1\r\n", "http/1.1"),
        (b"GET / HTTP/1.0\nHost: a\n", "http/1.0"),
        (b"CONNECT db:3306 HTTP/1.1\r\n\r\n", "http/1.1"),
        (b"M-SEARCH * HTTP/1.1\r\n", "http/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", "h2c"),
    ],
)
def test_http_is_known_by_its_first_line(data: bytes, protocol: str) -> None:
    assert sniff(data) == Detection(application_protocols=(protocol,))
    first_line = data.find(b"\n")
    for size in range(first_line):
        verdict = sniff(data[:size])
        assert isinstance(verdict, NeedMore)
        assert verdict.size_bytes > size


@pytest.mark.parametrize(
    "data",
    [
        b"get key\r\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/3.0\r\n",
        b"\r\n\r\n",
        b" GET / HTTP/1.1\r\n",
        b"*3\r\n$3\r\nSET\r\n",
        b"A" * 33,
        b"SSH-2.0-OpenSSH\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x02\x01\x00\x05",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x02",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    ],
)
def test_what_is_neither_is_raw(data: bytes) -> None:
    assert sniff(data) is RAW


def test_an_endless_first_line_is_bounded() -> None:
    assert isinstance(sniff(b"GET /" + b"a" * 1000), NeedMore)
    assert sniff(b"GET /" + b"a" * MAX_PEEK_BYTES) is RAW


def test_only_the_selected_protocols_are_detected() -> None:
    assert detect(hello(), tls=False, http=True) is RAW
    assert detect(b"GET / HTTP/1.1\r\n", tls=True, http=False) is RAW
    assert detect(b"G", tls=True, http=False) is RAW


@given(st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    verdict = sniff(data)
    assert not isinstance(verdict, NeedMore) or verdict.size_bytes > len(data)


@given(st.data())
def test_a_damaged_client_hello_never_raises(data: st.DataObject) -> None:
    damaged = bytearray(hello(alpn=("istio", "h2")))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    verdict = sniff(bytes(damaged))
    assert isinstance(verdict, (Detection, NeedMore))
