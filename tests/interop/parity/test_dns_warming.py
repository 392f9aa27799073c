"""Clusters over xDS whose names change under traffic, compared with the real Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protos import type_urls
from tests.interop.parity.conftest import proxy_command
from tests.interop.parity.test_dns import A, B, Proxy
from tests.support.address_server import address_server
from tests.support.ads_server import Stream, ads_server
from tests.support.dns_server import NameServer, name_server
from tests.support.envoy_config import (
    address,
    dns_cluster,
    http_connection_manager,
    listener,
    route_configuration,
    static_cluster,
)
from tests.support.processes import child, free_port

CARES = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
WARMING = "cluster_manager.warming_clusters"
PROXIES = pytest.mark.parametrize("proxy", ["envoy", "sidecar"])
KINDS = pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])


@dataclass(slots=True)
class Followed:
    """A proxy that serves one cluster, and what it answered while something changed."""

    proxy: Proxy
    stream: Stream
    names: NameServer
    upstream: int
    seen: list[str]

    def change(self, host: str, **fields: Any) -> None:
        """Does not wait for the acknowledgement: Envoy sends it when the cluster is warm."""
        document = dns_cluster("d", host, self.upstream, dns_lookup_family="V4_ONLY", **fields)
        self.stream.post_delta(type_urls.CLUSTER, document)

    async def ask(self) -> str:
        self.seen.append(await asyncio.to_thread(self.proxy.ask, "/"))
        return self.seen[-1]

    async def warming(self) -> int:
        return await asyncio.to_thread(self.proxy.stat, WARMING)

    async def come_to_say(self, expected: str) -> None:
        async with asyncio.timeout(10):
            while await self.ask() != expected:
                await asyncio.sleep(0.01)

    async def until_warming(self, expected: int) -> None:
        """Under traffic."""
        async with asyncio.timeout(10):
            while await self.warming() != expected:
                await self.ask()


def bootstrap(ads_port: int, admin_port: int, dns_port: int) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        "@type": f"type.googleapis.com/{options}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cares = {"@type": CARES, "resolvers": [address(dns_port)], "query_timeout_seconds": 20}
    return {
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": address(admin_port)},
        "typed_dns_resolver_config": {"name": "cares", "typed_config": cares},
        "static_resources": {
            "clusters": [
                {**static_cluster("xds", ads_port), "typed_extension_protocol_options": {options: http2}}
            ]
        },
        "dynamic_resources": {
            "cds_config": source,
            "lds_config": source,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
        },
    }


@asynccontextmanager
async def following(proxy: str, folder: Path, names: NameServer, kind: str) -> AsyncIterator[Followed]:
    """With the cluster ``d``, whose one name ``a.test`` is that of `A`."""
    port, admin = free_port(), free_port()
    names.say("a.test", A)
    file = folder / "bootstrap.json"
    with address_server(A, B) as upstream:
        async with ads_server() as ads:
            file.write_text(json.dumps(bootstrap(ads.port, admin, names.port)))
            with child(proxy_command(proxy, file), folder / "log") as process:
                stream = await ads.stream()
                followed = Followed(Proxy(process, port, admin), stream, names, upstream, [])
                await stream.request(type_urls.CLUSTER)
                followed.change("a.test", type=kind)
                await stream.request(type_urls.LISTENER)
                routes = route_configuration("r")
                routes["virtual_hosts"][0]["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "d"}}]
                manager = http_connection_manager(route_config=routes)
                await stream.send_delta(type_urls.LISTENER, listener("l", manager, port))
                await asyncio.to_thread(process.wait_for_port, port)
                await followed.come_to_say(A)
                followed.seen.clear()
                yield followed


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@PROXIES
@KINDS
async def test_the_old_hosts_serve_until_the_new_name_is_resolved(
    proxy: str, kind: str, names: NameServer, tmp_path: Path
) -> None:
    async with following(proxy, tmp_path, names, kind) as followed:
        names.keep_silent("b.test")
        followed.change("b.test", type=kind)
        await followed.until_warming(1)
        for _ in range(20):
            assert await followed.ask() == A
        names.say("b.test", B)
        await followed.come_to_say(B)
        await followed.until_warming(0)
        assert set(followed.seen) == {A, B}


@PROXIES
@KINDS
async def test_a_change_besides_the_names_loses_no_request(
    proxy: str, kind: str, names: NameServer, tmp_path: Path
) -> None:
    async with following(proxy, tmp_path, names, kind) as followed:
        for number in range(1, 4):
            names.keep_silent("a.test")
            followed.change("a.test", type=kind, connect_timeout=f"{number}s")
            for _ in range(5):
                await followed.ask()
            names.say("a.test", A)
            await followed.until_warming(0)
        assert set(followed.seen) == {A}


@PROXIES
async def test_a_name_that_does_not_exist_ends_the_wait(
    proxy: str, names: NameServer, tmp_path: Path
) -> None:
    async with following(proxy, tmp_path, names, "STRICT_DNS") as followed:
        followed.change("absent.test")
        await followed.come_to_say("503")
        await followed.until_warming(0)
