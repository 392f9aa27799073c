from __future__ import annotations

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import NameResolutionError, NoHealthyUpstreamError
from sidecar.upstream.dns.question import Answer, Question
from sidecar.upstream.original_dst import original_destination
from tests.support.requests import CONNECTION, connection_with


async def resolve(question: Question) -> Answer:
    if question.name == "broken":
        raise NameResolutionError("no server answered")
    return Answer({"reviews": ("10.0.0.9", "10.0.0.8")}.get(question.name, ()))


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
    connection = connection_with(original_destination=address)
    assert await original_destination(connection, b"10.0.0.1:80", resolve) == address


@pytest.mark.parametrize(
    "authority", [b"", b":80", b"a:b", b"a:0", b"a:65536", b"[]:1", b"broken:80", b"unknown:80", b"a:\xb2"]
)
async def test_an_authority_without_a_destination_is_an_error(authority: bytes) -> None:
    with pytest.raises(NoHealthyUpstreamError):
        await original_destination(CONNECTION, authority, resolve)
