from __future__ import annotations

import pytest

from sidecar.errors import DownstreamProtocolError
from sidecar.http.h1.rules import named_by_connection, printable, resolve_target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", (b"a", b"/")),
        (b"//x", (b"a", b"//x")),
        (b"http://b", (b"b", b"/")),
        (b"HTTP://b:1?x/y", (b"b:1", b"/?x/y")),
        (b"https://b/c", (b"b", b"/c")),
    ],
)
def test_target_forms(target: bytes, expected: tuple[bytes, bytes]) -> None:
    assert resolve_target(b"GET", target, b"a", allow_absolute=True) == expected


def test_connection_names_the_fields_for_one_hop() -> None:
    assert named_by_connection([b"close, X-Hop", b" ,x-b"]) == {b"close", b"x-hop", b"", b"x-b"}
    assert named_by_connection([b"close"]) == {b"close"}
    assert named_by_connection([b"Keep-Alive"]) == named_by_connection([b"keep-alive"]) == {b"keep-alive"}
    assert b"content-length" not in named_by_connection([b"Content-Length"])


@pytest.mark.parametrize("name", [b"Host", b"X-Forwarded-For", b"x-forwarded-host", b"x-forwarded-proto"])
def test_connection_must_not_name_headers_about_the_origin(name: bytes) -> None:
    with pytest.raises(DownstreamProtocolError, match="must not name"):
        named_by_connection([b"close", b"x-a, " + name])


def test_absolute_target_where_it_is_not_allowed() -> None:
    with pytest.raises(DownstreamProtocolError, match="absolute"):
        resolve_target(b"GET", b"http://b/", b"a", allow_absolute=False)


def test_asterisk_target_is_for_options() -> None:
    assert resolve_target(b"OPTIONS", b"*", b"a", allow_absolute=True) == (b"a", b"*")


def test_untrusted_bytes_are_short_and_harmless_in_a_message() -> None:
    assert printable(b"\x1b[31m\n" + b"a" * 1000) == repr("\x1b[31m\n" + "a" * 74)
