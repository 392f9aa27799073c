"""The whole data path of a sidecar over sockets, with filters of the test's own: listener, codec, filters,
router, cluster, pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sidecar.config.cluster import ClusterConfig
from sidecar.config.dns import SYSTEM_RESOLVER
from sidecar.config.listener import FilterChain, FilterChainMatch, HttpConnectionManager, Listener
from sidecar.config.snapshot import Snapshot
from sidecar.config.tls import DownstreamTls
from sidecar.filters.chain import FilterRegistry
from sidecar.filters.registry import FILTERS
from sidecar.identity.svid_pem import SvidPem
from sidecar.observability.request_metrics import LocalWorkload
from sidecar.observability.stats import Stats
from sidecar.observability.telemetry import Telemetry
from sidecar.process.stack import Stack, build_stack
from sidecar.timers import Timers
from tests.support.listening import LOOPBACK, eventually

NAME = "test"


class RunningStack:
    """One listener of one HTTP connection manager."""

    def __init__(self, stack: Stack, stats: Stats) -> None:
        self.stack = stack
        self.stats = stats

    @property
    def port(self) -> int:
        (status,) = self.stack.listeners.statuses()
        return status.address.port

    def under_way(self) -> dict[str, int]:
        """Every gauge of active requests and connections that is not zero, and the exchanges that hosts are
        counted for."""
        gauges = {
            f"{prefix}.{name}": value
            for prefix, counters in self.stats.sets()
            for name, value in counters.items()
            if isinstance(value, int) and value and name.endswith("_active") and name != "upstream_cx_active"
        }
        for cluster in self.stack.clusters:
            breaker = cluster.breaker
            held = {"requests": breaker.requests.count, "pending": breaker.pending_requests.count}
            held |= {"retries": breaker.retries.count}
            held |= {str(host.address): host.stats.rq_active for host in cluster.hosts.values()}
            gauges |= {f"{cluster.name}: {name}": count for name, count in held.items() if count}
        return gauges

    async def settle(self) -> None:
        """Returns when no request is active."""
        try:
            await eventually(lambda: not self.under_way())
        except TimeoutError:
            raise AssertionError(self.under_way()) from None


@asynccontextmanager
async def running_stack(
    manager: HttpConnectionManager,
    *clusters: ClusterConfig,
    filters: FilterRegistry = FILTERS,
    tls: DownstreamTls | None = None,
    svid: SvidPem | None = None,
) -> AsyncIterator[RunningStack]:
    """Leaves no task behind, or fails. `tls` is for the listener, and `svid` for both sides."""
    before = _tasks_of_the_proxy()
    timers, stats = Timers(asyncio.get_running_loop()), Stats()
    telemetry = Telemetry(LocalWorkload(), access_log="off")
    stack = build_stack(
        timers=timers,
        stats=stats,
        telemetry=telemetry,
        drain_time_s=1.0,
        dns_resolver=SYSTEM_RESOLVER,
        on_warm=lambda: None,
        filters=filters,
    )
    try:
        if svid is not None:
            stack.contexts.use_svid(svid)
        chain = FilterChain(name=NAME, match=FilterChainMatch(), tls=tls, filter=manager)
        listener = Listener(name=NAME, address=LOOPBACK, filter_chains=(chain,))
        snapshot = Snapshot(
            listeners={NAME: listener}, clusters={cluster.name: cluster for cluster in clusters}
        )
        stack.clusters.update(snapshot)
        errors = stack.listeners.update(snapshot)
        assert not errors, errors
        yield RunningStack(stack, stats)
    finally:
        await stack.listeners.close()
        await stack.router.close()
        await stack.clusters.close()
        await telemetry.close()
        timers.close()
    await eventually(lambda: not _tasks_of_the_proxy() - before)


def _tasks_of_the_proxy() -> set[asyncio.Task[object]]:
    """Without those of a `FlakyUpstream`, which serves until the test ends it."""
    return {task for task in asyncio.all_tasks() if not task.get_name().startswith("upstream ")}


def manager_of(*filters: Any, **options: Any) -> HttpConnectionManager:
    return HttpConnectionManager(stat_prefix=NAME, http_filters=filters, **options)
