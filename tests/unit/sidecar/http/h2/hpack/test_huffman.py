from __future__ import annotations

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from sidecar.http.h2.hpack.huffman import decode_huffman

_ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_is_read_at_every_bit_position(byte: int) -> None:
    for before in (b"", b"0", b"00", b"a !", b"&|"):
        string = before + bytes((byte,)) + b"e"
        assert decode_huffman(_ENCODER.encode(string)) == string


@pytest.mark.parametrize(
    ("coded", "string"),
    [
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),  # RFC 7541 C.4.1
        ("a8eb10649cbf", b"no-cache"),
        ("25a849e95bb8e8b4bf", b"custom-value"),
        ("d07abe941054d444a8200595040b8166e082a62d1bff", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        ("", b""),
    ],
)
def test_strings_of_the_standard(coded: str, string: bytes) -> None:
    assert decode_huffman(bytes.fromhex(coded)) == string


@pytest.mark.parametrize(
    ("coded", "fault"),
    [
        ("ff", "eight bits of padding"),
        ("1fff", "a symbol, and more than seven bits of padding"),
        ("00", "padding of zeros"),
        ("3fffffff", "EOS"),
        ("fffffffc", "EOS, and padding"),
        ("fffffffffc", "EOS"),
    ],
)
def test_invalid_codes(coded: str, fault: str) -> None:
    assert decode_huffman(bytes.fromhex(coded)) is None, fault
