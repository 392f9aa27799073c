"""Proxies without a downstream codec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sidecar.config.cluster import ClusterConfig
from sidecar.timers import Timers
from tests.support.clusters import cluster_manager
from tests.support.routed_proxy import Proxy, Start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a proxy for given clusters, and checks in the end that nothing leaked."""
    async with AsyncExitStack() as stack:
        timers = Timers(asyncio.get_running_loop())
        stack.callback(timers.close)

        async def start_proxy(*clusters: ClusterConfig, **options: Any) -> Proxy:
            proxy = Proxy(await stack.enter_async_context(cluster_manager(*clusters, **options)), timers)
            stack.push_async_callback(proxy.router.close)
            stack.callback(proxy.assert_nothing_under_way)
            return proxy

        yield start_proxy
