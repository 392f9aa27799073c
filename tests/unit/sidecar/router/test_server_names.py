"""`tests/interop/parity/test_auto_sni.py` compares the same with Envoy."""

from __future__ import annotations

import pytest

from sidecar.config.tls import AutoNames, ServerNames
from sidecar.router.server_names import server_names
from tests.support.requests import make_request

BOTH = AutoNames(sni=True, san=True)


@pytest.mark.parametrize(
    ("authority", "sni", "san"),
    [
        (b"a.test", "a.test", "a.test"),
        (b"A.Test:443", "a.test", "a.test"),
        (b"192.0.2.1:443", None, "192.0.2.1"),
        (b"[2001:db8::1]:443", None, "2001:db8::1"),
        (b"2001:db8::1", None, "2001:db8::1"),
    ],
)
def test_the_names_are_those_of_the_authority(authority: bytes, sni: str | None, san: str) -> None:
    request = make_request(authority=authority)
    assert server_names(BOTH, request) == ServerNames(sni=sni, san=san)
    assert server_names(AutoNames(sni=True), request) == ServerNames(sni=sni)
    assert server_names(AutoNames(san=True), request) == ServerNames(san=san)


def test_a_header_can_have_precedence() -> None:
    by_header = AutoNames(sni=True, header=b"x-name")
    named = make_request(authority=b"a.test", headers=[(b"x-name", b"b.test:1"), (b"x-name", b"c.test")])
    assert server_names(by_header, named) == ServerNames(sni="b.test")
    for headers in ([], [(b"x-name", b"")]):
        without = make_request(authority=b"a.test", headers=headers)
        assert server_names(by_header, without) == ServerNames(sni="a.test")
