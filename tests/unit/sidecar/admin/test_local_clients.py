from __future__ import annotations

import pytest

from sidecar.admin.answers import text
from sidecar.admin.local_clients import LocalClients
from sidecar.http.message import Request, Response
from tests.support.requests import make_request


async def answer(_: Request) -> Response:
    return text("the answer")


@pytest.mark.parametrize(
    "authority",
    [
        b"localhost",
        b"LOCALHOST:15000",
        b"127.0.0.1:15000",
        b"10.1.2.3",
        b"[::1]:15000",
        b"[::1]",
        b"",
    ],
)
async def test_addresses_and_localhost_are_answered(authority: bytes) -> None:
    response = await LocalClients(answer)(make_request(authority=authority))
    assert response.status == 200


@pytest.mark.parametrize(
    "authority",
    [
        b"evil.example",
        b"evil.example:15000",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example:1",
        b"\xff",
        b":1",
    ],
)
async def test_a_name_that_was_made_to_lead_here_is_refused(authority: bytes) -> None:
    """DNS rebinding: the page's own origin, at this machine's address."""
    response = await LocalClients(answer)(make_request(authority=authority))
    assert response.status == 403


async def test_a_page_of_another_origin_is_refused() -> None:
    """Cross-site request forgery: a form that posts to this machine's address."""
    for origin in (b"https://evil.example", b"null", b"http://localhost:8080"):
        foreign = make_request(authority=b"localhost:15000", headers=[(b"origin", origin)])
        assert (await LocalClients(answer)(foreign)).status == 403
    own = make_request(authority=b"localhost:15000", headers=[(b"origin", b"http://localhost:15000")])
    assert (await LocalClients(answer)(own)).status == 200
