"""Names that requests through an explicit proxy bring: of HTTP in absolute form and of CONNECT."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.address_server import address_server
from tests.support.dns_server import NameServer, name_server
from tests.support.envoy_config import address, http_connection_manager, listener
from tests.support.processes import child, free_port

A = "127.0.0.2"
CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


class Proxy:
    def __init__(self, port: int, upstream: int, names: NameServer) -> None:
        self.port = port
        self.upstream = upstream
        self.names = names

    async def ask(self, host: str, *, connect: bool = False) -> bytes:
        """The first bytes of the answer, or all of it where that is the tunnel's own."""
        authority = f"{host}:{self.upstream}"
        request = f"GET http://{authority}/ HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            if connect:
                writer.write(f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    return head
                request = f"GET / HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
            writer.write(request.encode())
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()


def bootstrap(port: int, dns_port: int) -> dict[str, Any]:
    cares = {"@type": CARES, "resolvers": [address(dns_port)], "query_timeout_seconds": 20}
    route = {"route": {"cluster": "passthrough"}}
    tunnel = {"route": {"cluster": "passthrough", "upgrade_configs": [{"upgrade_type": "CONNECT"}]}}
    hosts = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"connect_matcher": {}}, **tunnel}, {"match": {"prefix": "/"}, **route}],
    }
    for connect in hosts["routes"][:1]:  # type: ignore[index]
        connect["route"]["upgrade_configs"][0]["connect_config"] = {}
    manager = http_connection_manager(
        route_config={"name": "r", "virtual_hosts": [hosts]},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        http_protocol_options={"allow_absolute_url": True},
    )
    return {
        "node": {"id": "a", "cluster": "a"},
        "typed_dns_resolver_config": {"name": "cares", "typed_config": cares},
        "static_resources": {
            "listeners": [listener("l", manager, port)],
            "clusters": [{"name": "passthrough", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}],
        },
    }


@pytest_asyncio.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    with ExitStack() as stack:
        names = stack.enter_context(name_server())
        upstream = stack.enter_context(address_server(A))
        port = free_port()
        file = tmp_path / "bootstrap.json"
        file.write_text(json.dumps(bootstrap(port, names.port)))
        options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
        command = [sys.executable, "-m", "sidecar", "-c", str(file), *options]
        process = stack.enter_context(child(command, tmp_path / "log"))
        await asyncio.to_thread(process.wait_for_port, port)
        yield Proxy(port, upstream, names)


@pytest.mark.parametrize("connect", [False, True])
async def test_a_name_without_an_answer_holds_up_no_other(proxy: Proxy, connect: bool) -> None:
    proxy.names.say("good.test", A)
    proxy.names.keep_silent("dead.test")
    waiting = [asyncio.create_task(proxy.ask("dead.test", connect=connect)) for _ in range(10)]
    async with asyncio.timeout(10):
        while not proxy.names.count("dead.test"):
            await asyncio.sleep(0.01)
    assert (await proxy.ask("good.test", connect=connect)).endswith(A.encode())
    proxy.names.say("dead.test", A)
    for answer in await asyncio.gather(*waiting):
        assert answer.endswith(A.encode())
    assert proxy.names.count("dead.test") == 2, "A and AAAA, once for all"


@pytest.mark.parametrize("connect", [False, True])
async def test_a_name_that_does_not_exist_is_not_asked_for_by_each_request(
    proxy: Proxy, connect: bool
) -> None:
    for _ in range(10):
        assert (await proxy.ask("absent.test", connect=connect)).startswith(b"HTTP/1.1 503")
    assert proxy.names.count("absent.test") < 10
