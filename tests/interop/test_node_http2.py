"""Node's http2 as the client and as the server of the sidecar."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sidecar.config.codec_type import CodecType
from tests.support.peer_programs import (
    Credentials,
    no_request_fails_when_a_server_stops,
    passed_checks,
    proxy_between,
    server,
)

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

PROGRAM = Path(__file__).with_name("nodehttp2") / "main.mjs"
CHECKS = [
    "bodies and trailers",
    "concurrent",
    "early hints",
    "reset by the server",
    "cancelled by the client",
    "connection that the client closes",
]


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        reason = "node is not installed: `apt-get install nodejs` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


async def test_node_client_and_server_understand_the_sidecar_in_plaintext(node: str) -> None:
    async with (
        server(node, PROGRAM, "server") as port,
        proxy_between(port, CodecType.HTTP2, listener=None, hosts=None) as url,
    ):
        assert await passed_checks(node, PROGRAM, "client", url) == CHECKS


@pytest.mark.parametrize("cluster", [CodecType.HTTP2, CodecType.AUTO])
async def test_node_client_and_server_understand_the_sidecar_over_tls(
    node: str, tmp_path: Path, cluster: CodecType
) -> None:
    credentials = Credentials.made_in(tmp_path)
    listener, hosts = credentials.of_the_listener(), credentials.of_the_hosts()
    async with (
        server(node, PROGRAM, "server", credentials.certificate, credentials.key) as port,
        proxy_between(port, cluster, listener=listener, hosts=hosts) as url,
    ):
        trusted = str(credentials.certificate)
        assert await passed_checks(node, PROGRAM, "client", url, NODE_EXTRA_CA_CERTS=trusted) == CHECKS


async def test_no_request_fails_when_a_node_server_stops_gracefully(node: str) -> None:
    await no_request_fails_when_a_server_stops((node, PROGRAM, "server"), (node, PROGRAM, "load"))
