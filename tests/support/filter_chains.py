"""Filter chains without a process around them."""

from __future__ import annotations

import asyncio
from typing import Any

from sidecar.config.http_filters import RouterConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.filters.chain import FilterContext, FilterRegistry, HttpFilterChain
from sidecar.filters.registry import FILTERS
from sidecar.http.message import Service
from sidecar.observability.stats import Stats
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTableRef
from sidecar.router.resolution import FindCluster, RouteResolver
from sidecar.timers import Timers

ROUTER = HttpFilter(name="envoy.filters.http.router", config=RouterConfig())


def filter_context(
    find_cluster: FindCluster = lambda name: None, *, env: RouterEnvironment | None = None, **options: Any
) -> FilterContext:
    env = env or RouterEnvironment(timers=Timers(asyncio.get_running_loop()))
    return FilterContext(find_cluster=find_cluster, stats=Stats(), router_env=env, **options)


def filter_chain(
    config: HttpConnectionManager,
    *,
    routes: RouteTableRef,
    router: Service,
    registry: FilterRegistry = FILTERS,
    find_cluster: FindCluster = lambda name: None,
    context: FilterContext | None = None,
) -> HttpFilterChain:
    """The chain of `config`, as the process makes it."""
    return HttpFilterChain(
        config,
        resolver=RouteResolver(config, routes, find_cluster),
        router=router,
        registry=registry,
        context=context or filter_context(find_cluster),
    )
