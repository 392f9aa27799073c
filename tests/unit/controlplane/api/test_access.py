"""Who may use the debug API: callers on this machine, and callers with a permitted token."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from controlplane.api.access import Authorizer, ProtectedApp
from controlplane.errors import AccessError

ELSEWHERE = "10.1.2.3"


async def show(_: Request) -> PlainTextResponse:
    return PlainTextResponse("the mesh")


APP = Starlette(routes=[Route(path, show) for path in ("/ready", "/healthz", "/debug/syncz")])


class Permits:
    """Permits the token ``good``."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def authorize(self, token: str, verb: str, path: str) -> None:
        self.asked.append((token, verb, path))
        if token != "good":
            raise AccessError(403, "not you")


async def call(
    client: str,
    *,
    host: str = "10.9.9.9:8080",
    path: str = "/debug/syncz",
    authorizer: Authorizer | None = None,
    headers: list[tuple[str, str]] | None = None,
    method: str = "GET",
) -> httpx.Response:
    transport = httpx.ASGITransport(app=ProtectedApp(APP, lambda: authorizer), client=(client, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://ignored") as http:
        return await http.request(method, path, headers=[("host", host), *(headers or [])])


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]"])
async def test_a_caller_on_this_machine_needs_no_token(client: str, host: str) -> None:
    assert (await call(client, host=host)).text == "the mesh"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", "a:b:c:http"]
)
async def test_a_host_that_a_web_page_could_have_is_refused(host: str) -> None:
    response = await call("127.0.0.1", host=host)
    assert response.status_code == 403
    assert "use localhost or an IP address" in response.json()["detail"]


@pytest.mark.parametrize("client", [ELSEWHERE, "fe80::1", "::ffff:10.1.2.3", "unix", ""])
async def test_a_caller_from_elsewhere_needs_a_token(client: str) -> None:
    response = await call(client, host="localhost", authorizer=Permits())
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "requires a bearer token" in response.json()["detail"]


async def test_a_permitted_token_opens_the_path_for_its_verb() -> None:
    permits = Permits()
    for method in ("GET", "HEAD"):
        response = await call(
            ELSEWHERE, authorizer=permits, headers=[("authorization", "bearer good")], method=method
        )
        assert response.status_code == 200
    await call(ELSEWHERE, authorizer=permits, headers=[("authorization", "Bearer good")], method="DELETE")
    verbs = [verb for _, verb, _ in permits.asked]
    assert verbs == ["get", "get", "delete"]
    assert permits.asked[0] == ("good", "get", "/debug/syncz")


async def test_another_token_is_refused_with_the_reason() -> None:
    response = await call(ELSEWHERE, authorizer=Permits(), headers=[("authorization", "Bearer bad")])
    assert (response.status_code, response.json()) == (403, {"detail": "not you"})


@pytest.mark.parametrize(
    "values",
    [["Basic Z29vZA=="], ["Bearer"], ["Bearer "], ["Bearer good", "Bearer good"], ["Bearer " + "x" * 20000]],
)
async def test_a_malformed_token_is_never_asked_about(values: list[str]) -> None:
    permits = Permits()
    response = await call(ELSEWHERE, authorizer=permits, headers=[("authorization", each) for each in values])
    assert (response.status_code, permits.asked) == (401, [])


async def test_a_header_cannot_say_that_the_caller_is_on_this_machine() -> None:
    headers = [("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")]
    assert (await call(ELSEWHERE, host="localhost", authorizer=Permits(), headers=headers)).status_code == 401


async def test_without_an_api_server_nobody_from_elsewhere_is_permitted() -> None:
    response = await call(ELSEWHERE, headers=[("authorization", "Bearer good")])
    assert response.status_code == 403
    assert "on this machine only" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/ready", "/healthz"])
async def test_probes_are_open(path: str) -> None:
    assert (await call(ELSEWHERE, path=path)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/ready/../debug/syncz", "//debug/syncz", "/debug/syncz/", "/openapi.json", "/"]
)
async def test_every_other_path_is_protected(path: str) -> None:
    assert (await call(ELSEWHERE, path=path)).status_code == 403
