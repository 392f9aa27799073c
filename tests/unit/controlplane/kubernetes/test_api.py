"""All kinds of responses, and missing ones, from an API server or from a proxy in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException

from controlplane.errors import RefusedError, UnreachableError
from controlplane.kubernetes.api import ClientApi

PATH = "/api/v1/pods"
DEPTH = 100_000  # Python 3.13 still decodes some 10,000 levels


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@asynccontextmanager
async def api_server(response: bytes | None) -> AsyncIterator[Configuration]:
    """Sends the same response to every request and closes the connection; None: sends nothing until the
    client gives up."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline() not in (b"", b"\r\n"):
            pass
        if response is None:
            await reader.read()
        else:
            writer.write(response)
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer), name="serve"))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield Configuration(host=f"http://{host}:{port}")
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def connected(configuration: Configuration) -> AsyncIterator[ClientApi]:
    api = ClientApi(configuration)
    try:
        yield api
    finally:
        await api.close()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "Server disconnected"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "Bad status line|Expected HTTP"),
        (answer(b'{"items": [')[:-3], "payload is not completed"),
        (answer(b"<html>log in</html>"), "not JSON: b'<html>log in"),
        (answer(b"[]"), "not a JSON object"),
        (answer(b'{"status": "ok"}'), "not a Kubernetes object: b'{\"status"),
        (answer(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH), "not JSON"),
    ],
)
async def test_an_incomplete_or_malformed_response_means_unreachable(response: bytes, reason: str) -> None:
    async with api_server(response) as configuration, connected(configuration) as api:
        with pytest.raises(UnreachableError, match=reason):
            await api.get(PATH)


async def test_an_error_response_has_the_api_servers_message() -> None:
    refusal = answer(b'{"kind": "Status", "message": "pods is forbidden"}', "403 Forbidden")
    async with api_server(refusal) as configuration, connected(configuration) as api:
        with pytest.raises(RefusedError, match="403: pods is forbidden"):
            await api.get(PATH)


async def test_a_timeout_has_a_description(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.kubernetes.api._ANSWER_TIMEOUT_S", 0.05)
    async with api_server(None) as configuration, connected(configuration) as api:
        with pytest.raises(UnreachableError, match=r"http://127.0.0.1:\d+: TimeoutError"):
            await api.get(PATH)


def refuse(_: Configuration) -> None:
    raise ConfigException("Token file exists but empty.")


def garble(_: Configuration) -> None:
    b"\xff".decode()


@pytest.mark.parametrize("fails", [refuse, garble])
async def test_a_token_that_is_unreadable_for_a_moment_can_be_read_later(
    fails: Callable[[Configuration], None],
) -> None:
    """The kubelet replaces the file while the process runs."""
    async with api_server(answer(b'{"kind": "PodList"}')) as configuration, connected(configuration) as api:
        configuration.api_key["BearerToken"] = "bearer a.b.c"
        configuration.refresh_api_key_hook = fails
        with pytest.raises(UnreachableError, match=r"cannot read the token: .*(empty|0xff)"):
            await api.get(PATH)
        configuration.refresh_api_key_hook = None
        assert await api.get(PATH) == {"kind": "PodList"}


async def test_a_token_may_end_with_its_line() -> None:
    async with api_server(answer(b'{"kind": "PodList"}')) as configuration, connected(configuration) as api:
        configuration.api_key["BearerToken"] = "bearer a.b.c\n"
        assert await api.get(PATH) == {"kind": "PodList"}
