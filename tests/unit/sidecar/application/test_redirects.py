from __future__ import annotations

import pytest

from sidecar.application.redirects import HttpTarget, ProbeError, next_target
from sidecar.config.endpoint import SocketAddress

START = HttpTarget(SocketAddress("10.0.0.5", 8080), "/a/start?x=1", False, b"web.example")
OWN = b"10.0.0.5:8080"


def target(
    path: str, port: int = 8080, *, https: bool = False, authority: bytes = b"web.example"
) -> HttpTarget:
    return HttpTarget(SocketAddress("10.0.0.5", port), path, https, authority)


@pytest.mark.parametrize(
    ("location", "following"),
    [
        (b"/next", target("/next")),
        (b"next?y=2", target("/a/next?y=2")),
        (b"?y=2", target("/a/start?y=2")),
        (b"http://10.0.0.5:8080/next", target("/next", authority=OWN)),
        (b"//10.0.0.5/next", target("/next", 80, authority=b"10.0.0.5:80")),
        (b"https://10.0.0.5/next#part", target("/next", 443, https=True, authority=b"10.0.0.5:443")),
        (b"/a\xe9 b", target("/a%C3%A9%20b")),
    ],
)
def test_a_redirect_to_the_same_host_is_followed(location: bytes, following: HttpTarget) -> None:
    assert next_target(START, 302, location) == following


@pytest.mark.parametrize(
    "location", [b"http://example.com/", b"https://web.example/", b"//127.0.0.1:8080/", b"", None]
)
def test_a_redirect_to_another_host_ends_the_probe(location: bytes | None) -> None:
    assert next_target(START, 302, location) is None


@pytest.mark.parametrize("status", [300, 304, 305, 306, 399])
def test_other_statuses_are_no_redirects_to_follow(status: int) -> None:
    assert next_target(START, status, b"/next") is None


@pytest.mark.parametrize("location", [b"http://10.0.0.5:99999/", b"http://[::1/", b"http://10.0.0.5:x/"])
def test_an_invalid_location_fails_the_probe(location: bytes) -> None:
    with pytest.raises(ProbeError, match="invalid location"):
        next_target(START, 301, location)


def test_another_scheme_fails_the_probe() -> None:
    with pytest.raises(ProbeError, match="not HTTP"):
        next_target(START, 301, b"ftp://10.0.0.5/")


def test_ipv6_addresses_are_hosts_too() -> None:
    start = HttpTarget(SocketAddress("fd00::5", 8080), "/", False, b"[fd00::5]:8080")
    following = next_target(start, 307, b"http://[fd00::5]:9090/x")
    assert following == HttpTarget(SocketAddress("fd00::5", 9090), "/x", False, b"[fd00::5]:9090")
