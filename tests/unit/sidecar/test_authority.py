from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.authority import is_authority, split_authority, split_port
from sidecar.config.endpoint import SocketAddress


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"reviews.default.svc.cluster.local:9080",
        b"127.0.0.1:80",
        b"[::1]",
        b"[::1]:80",
        b"a:",
        b"a_b",
        b"a%20b",
    ],
)
def test_host_with_or_without_port_is_valid(value: bytes) -> None:
    assert is_authority(value)


@pytest.mark.parametrize(
    "value",
    [b"", b":80", b"a:b", b"a:80:80", b"::1", b"[]", b"[::1", b"[::1]80", b"[g]", b"a:70000", b"a:1234567",
     b"a/b", b"a?b", b"a b", b"a\tb", b"u@a", b"a\xff", b'a"b', b"a\\b"],
)  # fmt: skip
def test_anything_else_is_invalid(value: bytes) -> None:
    assert not is_authority(value)


def test_long_authority_is_invalid() -> None:
    assert is_authority(b"a" * 320)
    assert not is_authority(b"a" * 321)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"a:1", (b"a", b"1")),
        (b"a", (b"a", b"")),
        (b"a:", (b"a", b"")),
        (b"[::1]:80", (b"[::1]", b"80")),
        (b"[::1]", (b"[::1]", b"")),
        (b"::1", (b"::1", b"")),
        (b"a:b", (b"a:b", b"")),
        (b"a:1:2", (b"a:1:2", b"")),
        (b"a:\xb2", (b"a:\xb2", b"")),
        (b"", (b"", b"")),
    ],
)
def test_port_is_split_off_only_if_it_is_one(authority: bytes, expected: tuple[bytes, bytes]) -> None:
    assert split_port(authority) == expected


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"reviews:9080", ("reviews", 9080)),
        (b"reviews", ("reviews", None)),
        (b"10.0.0.1:65535", ("10.0.0.1", 65535)),
        (b"[::1]:8080", ("::1", 8080)),
        (b"[::1]", ("::1", None)),
    ],
)
def test_authority_is_split_into_host_and_port(authority: bytes, expected: tuple[str, int | None]) -> None:
    assert split_authority(authority) == expected


@pytest.mark.parametrize(
    "authority",
    [b"", b":80", b"a:b", b"a:0", b"a:65536", b"a:1000000", b"[]:1", b"[::1", b"::1", b"[a]", b"a:\xb2",
     b"\xff"],
)  # fmt: skip
def test_malformed_authority_is_an_error(authority: bytes) -> None:
    with pytest.raises(ValueError, match=r"^invalid (host|port|IPv6 address)$"):
        split_authority(authority)


@given(st.ip_addresses().map(str) | st.just("reviews"), st.integers(1, 65535))
def test_address_is_split_as_it_was_written(host: str, port: int) -> None:
    written = str(SocketAddress(host, port)).encode()
    assert is_authority(written)
    found, found_port = split_authority(written)
    assert found_port == port
    assert found == host


@given(st.binary(max_size=20))
def test_any_bytes_are_split_or_refused(authority: bytes) -> None:
    host, port = split_port(authority)
    assert authority in (host, host + b":" + port)
    try:
        split_authority(authority)
    except ValueError:
        return
    assert is_authority(authority)
