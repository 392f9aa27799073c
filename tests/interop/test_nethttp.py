"""Go's net/http as the client and as the server of the sidecar."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sidecar.config.codec_type import CodecType
from tests.support.nethttp import NETHTTP
from tests.support.peer_programs import (
    Credentials,
    no_request_fails_when_a_server_stops,
    passed_checks,
    proxy_between,
    server,
)

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

CHECKS = [
    "bodies and trailers",
    "concurrent",
    "early hints",
    "reset by the server",
    "cancelled by the client",
]


@pytest.fixture(scope="module")
def nethttp() -> Path:
    if not NETHTTP.path.is_file():
        pytest.skip("nethttp is not built: `make cluster-binary` builds it")
    return NETHTTP.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """Major versions of HTTP, and whether TLS protects the connections of both sides."""

    client: str = "2"
    server: str = "2"
    tls: bool = False
    cluster: CodecType = CodecType.HTTP2


PEERS = {
    "HTTP/2": Peers(),
    "HTTP/2 over TLS": Peers(tls=True),
    "HTTP/2 over TLS, which the server chooses": Peers(tls=True, cluster=CodecType.AUTO),
    "HTTP/2 to HTTP/1.1": Peers(server="1", cluster=CodecType.HTTP1),
    "HTTP/2 to HTTP/1.1 over TLS, which the server chooses": Peers(
        server="1", tls=True, cluster=CodecType.AUTO
    ),
    "HTTP/1.1 to HTTP/2": Peers(client="1"),
    "HTTP/1.1 to HTTP/2 over TLS": Peers(client="1", tls=True),
}


@pytest.mark.parametrize("peers", PEERS.values(), ids=list(PEERS))
async def test_go_client_and_server_understand_the_sidecar(
    nethttp: Path, tmp_path: Path, peers: Peers
) -> None:
    credentials = Credentials.made_in(tmp_path)
    listener, hosts = (
        (credentials.of_the_listener(), credentials.of_the_hosts()) if peers.tls else (None, None)
    )
    files = (credentials.certificate, credentials.key) if peers.tls else ()
    async with (
        server(nethttp, "server", peers.server, *files) as port,
        proxy_between(port, peers.cluster, listener=listener, hosts=hosts) as url,
    ):
        trusted = str(credentials.certificate)
        assert await passed_checks(nethttp, "client", peers.client, url, SSL_CERT_FILE=trusted) == CHECKS


async def test_no_request_fails_when_a_go_server_stops_gracefully(nethttp: Path) -> None:
    await no_request_fails_when_a_server_stops((nethttp, "server", "2"), (nethttp, "load", "2"))
