from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import NoHealthyUpstreamError
from sidecar.upstream.original_dst import NameCache, original_destination
from tests.support.requests import CONNECTION


async def resolve(name: str) -> Sequence[str]:
    if name == "broken":
        raise OSError("no such name")
    return {"reviews": ["10.0.0.9", "10.0.0.8"]}.get(name, [])


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        (b"10.0.0.1:8080", SocketAddress("10.0.0.1", 8080)),
        (b"10.0.0.1", SocketAddress("10.0.0.1", 80)),
        (b"[::1]:8080", SocketAddress("::1", 8080)),
        (b"[::1]", SocketAddress("::1", 80)),
        (b"reviews:9080", SocketAddress("10.0.0.9", 9080)),
    ],
)
async def test_an_explicit_proxy_goes_where_the_authority_says(
    authority: bytes, expected: SocketAddress
) -> None:
    assert await original_destination(CONNECTION, authority, resolve) == expected


async def test_a_redirected_connection_goes_where_it_was_going() -> None:
    address = SocketAddress("10.9.9.9", 1)
    connection = replace(CONNECTION, original_destination=address)
    assert await original_destination(connection, b"10.0.0.1:80", resolve) == address


@pytest.mark.parametrize(
    "authority", [b"", b":80", b"a:b", b"a:0", b"a:65536", b"[]:1", b"broken:80", b"unknown:80", b"a:\xb2"]
)
async def test_what_says_nothing_leads_nowhere(authority: bytes) -> None:
    with pytest.raises(NoHealthyUpstreamError):
        await original_destination(CONNECTION, authority, resolve)


async def test_names_are_remembered_for_a_moment_and_in_bounded_number() -> None:
    asked: list[str] = []
    now_s = 0.0

    async def count(name: str) -> Sequence[str]:
        asked.append(name)
        return [name]

    cache = NameCache(count, lambda: now_s, lifetime_s=5.0, capacity=2)
    for name in ("a", "a", "b", "c", "b", "a"):
        assert await cache(name) == [name]
    assert asked == ["a", "b", "c", "a"]  # the third name drove out the first
    now_s = 5.0
    await cache("b")
    assert asked[-1] == "b"
