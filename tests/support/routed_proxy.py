"""The router and the upstream side over real sockets, without a downstream codec."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from sidecar.config.listener import HttpConnectionManager
from sidecar.config.route import (
    ForwardAction,
    RetryPolicy,
    Route,
    VirtualHost,
)
from sidecar.http.message import Request, Response
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.router.router import Router
from sidecar.timers import Timers
from sidecar.upstream.cluster_manager import ClusterManager
from tests.support.bodies import read_all
from tests.support.filter_chains import ROUTER, filter_chain
from tests.support.flaky_upstream import Exchange
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, virtual_host

MANAGER = HttpConnectionManager(
    stat_prefix="test",
    http_filters=(ROUTER,),
    upgrades=frozenset({"websocket", "connect"}),
)


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Proxy:
    """A stack without a downstream codec: requests go in, responses come out."""

    def __init__(self, clusters: ClusterManager, timers: Timers) -> None:
        self.clusters = clusters
        self.timers = timers
        self.router = Router(RouterEnvironment(timers=timers, rng=Random(1)))
        self.routes = RouteTableRef()
        self.service = filter_chain(
            MANAGER, routes=self.routes, router=self.router, find_cluster=clusters.find
        )

    def use(self, *routes: Route | ForwardAction, **options: Any) -> None:
        made = [entry if isinstance(entry, Route) else route(prefix(), entry) for entry in routes]
        host: VirtualHost = virtual_host(*made, **options)
        self.routes.current = RouteTable(configuration(host))

    async def send(self, request: Request | None = None) -> Response:
        return await self.service(request or make_request())

    async def ask(self, request: Request | None = None) -> tuple[int, bytes]:
        response = await self.send(request)
        return response.status, await read_all(response.body)

    def assert_nothing_under_way(self) -> None:
        """Every count of active requests is back at zero."""
        for cluster in self.clusters:
            breaker = cluster.breaker
            assert (breaker.requests.count, breaker.pending_requests.count, breaker.retries.count) == (
                0,
                0,
                0,
            )
            assert cluster.stats.upstream_rq_active == cluster.stats.upstream_rq_pending_active == 0
            assert all(host.stats.rq_active == 0 for host in cluster.hosts.values())


Start = Callable[..., Any]


def retries(*retry_on: str, **options: Any) -> RetryPolicy:
    options.setdefault("back_off_base_interval_s", 0.001)
    return RetryPolicy(retry_on=frozenset(retry_on), **options)


async def silence(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def hang_up(exchange: Exchange) -> None:
    exchange.writer.close()
    raise ConnectionResetError


async def fail(exchange: Exchange) -> None:
    exchange.answer(503, b"broken")
