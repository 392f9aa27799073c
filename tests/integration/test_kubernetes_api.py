"""Responses that do not come from an API server but from a proxy in front of it, or that are incomplete."""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from controlplane.errors import RefusedError, UnreachableError
from controlplane.kubernetes.api import ClientApi
from tests.support.certificates import TestAuthority

Answering = Callable[..., AbstractAsyncContextManager[ClientApi]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    served: TestAuthority
    trusted: TestAuthority


DEPTH = 5000  # Go accepts twice as many levels
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.fixture
def answering(tmp_path: Path) -> Answering:
    """A client of a server that gives the same response to every request."""

    @asynccontextmanager
    async def serve(raw: bytes, tls: Tls | None = None) -> AsyncIterator[ClientApi]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with closing(writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(raw)
                await writer.drain()

        context = None
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls.served.write(tmp_path, "server"))
        async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            api = await ClientApi.connect(kubeconfig(tmp_path, port, tls))
            try:
                async with asyncio.timeout(10):
                    yield api
            finally:
                await api.close()

    return serve


def kubeconfig(folder: Path, port: int, tls: Tls | None) -> Path:
    path = folder / "kubeconfig"
    cluster = {"server": f"http://127.0.0.1:{port}"}
    if tls is not None:
        cluster = {
            "server": f"https://127.0.0.1:{port}",
            "certificate-authority-data": b64encode(tls.trusted.certificate_pem).decode(),
        }
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(yaml.safe_dump(document))
    return path


NONSENSE = {
    "HTML": b"<html>Sign in</html>",
    "nothing": b"",
    "a list": b"[]",
    "half of a document": b'{"items": [',
    "bytes of no encoding": b"\xff\xfe{}",
    "a document that is too deep": b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
async def test_a_response_that_is_not_a_document_means_unreachable(answering: Answering, body: bytes) -> None:
    async with answering(answer(body)) as api:
        with pytest.raises(UnreachableError, match="the response is not "):
            await api.get("/api/v1/pods")


@pytest.mark.parametrize("raw", [answer(b'{"items":', length=100), CHUNKED + b'9\r\n{"items":', b"HTTP/1."])
async def test_an_incomplete_response_means_unreachable(answering: Answering, raw: bytes) -> None:
    async with answering(raw) as api:
        with pytest.raises(UnreachableError):
            await api.get("/api/v1/pods")


def authority(issuer: TestAuthority | None = None) -> TestAuthority:
    now = time.time()
    return TestAuthority(
        "root" if issuer is None else "server",
        issuer=issuer,
        ca=issuer is None,
        not_before=now - 60,
        not_after=now + 3600,
    )


async def test_an_api_servers_certificate_without_key_identifiers_is_accepted(answering: Answering) -> None:
    root = authority()
    tls = Tls(served=authority(root), trusted=root)
    async with answering(answer(b'{"kind": "Status"}'), tls) as api:
        assert await api.get("/version") == {"kind": "Status"}


async def test_a_certificate_from_another_authority_is_rejected(answering: Answering) -> None:
    tls = Tls(served=authority(authority()), trusted=authority())
    async with answering(answer(b'{"kind": "Status"}'), tls) as api:
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            await api.get("/version")


async def test_an_html_error_response_is_part_of_the_error(answering: Answering) -> None:
    async with answering(answer(b"<h1>Bad gateway</h1>", "502 Bad Gateway")) as api:
        with pytest.raises(RefusedError, match="502: <h1>Bad gateway</h1>"):
            await api.get("/api/v1/pods")


async def test_a_watch_that_breaks_during_an_event_yields_the_complete_events(answering: Answering) -> None:
    body = b'{"type": "ADDED"}\n{"type": "MODI'
    async with answering(CHUNKED + f"{len(body):x}\r\n".encode() + body + b"\r\n") as api:
        events = []

        async def watch() -> None:
            async for event in api.stream("/api/v1/pods", {}):
                events.append(event)

        with pytest.raises(UnreachableError):
            await watch()
        assert events == [{"type": "ADDED"}]
