"""A proxy whose clients and hosts speak HTTP/2, or HTTP/1.1, over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from sidecar.config.codec_type import CodecType
from sidecar.config.endpoint import Endpoint
from sidecar.config.http2 import Http2Options
from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import PathMatchKind, RouteMatch
from tests.support.clusters import static_cluster
from tests.support.filter_chains import ROUTER
from tests.support.http2_peer import Http2Peer, Http2Upstream, http2_client, http2_upstream
from tests.support.routes import configuration, prefix, route, to, virtual_host
from tests.support.running_stack import NAME, RunningStack, running_stack

_CONNECT = RouteMatch(path_kind=PathMatchKind.CONNECT, path="")
MANAGER = HttpConnectionManager(
    stat_prefix=NAME,
    http_filters=(ROUTER,),
    http2=Http2Options(allow_connect=True),
    upgrades=frozenset(("websocket", "connect")),
    route_config=configuration(virtual_host(route(_CONNECT, to("up")), route(prefix(), to("up")))),
)


@asynccontextmanager
async def proxy_to(
    endpoint: Endpoint, codec_type: CodecType, *, cluster: dict[str, Any] | None = None, **manager: Any
) -> AsyncIterator[RunningStack]:
    """`cluster` and `manager` are fields of the configuration."""
    config = static_cluster(endpoint, codec_type=codec_type, **(cluster or {}))
    async with running_stack(replace(MANAGER, **manager), config) as stack:
        yield stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A client of HTTP/2, the proxy, and an upstream of HTTP/2."""

    client: Http2Peer
    stack: RunningStack
    upstream: Http2Upstream


@asynccontextmanager
async def http2_hop(
    *,
    client: dict[int, int] | None = None,
    upstream: dict[int, int] | None = None,
    cluster: dict[str, Any] | None = None,
    **manager: Any,
) -> AsyncIterator[Hop]:
    """`client` and `upstream` are SETTINGS of the peers. In the end, no request may be under way."""
    async with (
        http2_upstream(upstream) as host,
        proxy_to(host.endpoint, CodecType.HTTP2, cluster=cluster, **manager) as stack,
    ):
        async with await http2_client(stack.port, settings=client) as peer:
            yield Hop(client=peer, stack=stack, upstream=host)
        await stack.settle()
