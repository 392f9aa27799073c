from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecar.config.http_filters import GrpcStatsConfig
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.filters.registry import FILTERS
from sidecar.http.message import Request, Response
from sidecar.observability.exposition import prometheus_pieces
from sidecar.observability.report import StatsReport
from sidecar.observability.stats import MOST_GRPC_METHODS, GrpcStats, Stats
from sidecar.router.match import RouteTable, RouteTableRef
from tests.support.clusters import cluster_manager, static_cluster
from tests.support.filter_chains import ROUTER, filter_chain, filter_context
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, to, virtual_host

MESSAGE = b"\0\0\0\0\2hi"


async def counted(*paths: bytes, status: int = 0, stats: Stats | None = None, **config: Any) -> Stats:
    """The statistics after calls to these paths of the cluster ``up``."""
    stats = stats or Stats()

    async def upstream(request: Request) -> Response:
        return Response(200, [(b"grpc-status", b"%d" % status)])

    async with cluster_manager(static_cluster()) as clusters:
        context = replace(filter_context(clusters.find), stats=stats)
        chain = filter_chain(
            HttpConnectionManager(
                stat_prefix="test",
                http_filters=(HttpFilter(name="stats", config=GrpcStatsConfig(**config)), ROUTER),
            ),
            routes=RouteTableRef(RouteTable(configuration(virtual_host(route(prefix(), to("up")))))),
            router=upstream,
            find_cluster=clusters.find,
            registry=FILTERS,
            context=context,
        )
        for path in paths:
            request = make_request(path, method=b"POST", body=MESSAGE)
            request.begin_grpc_call()
            response = await chain(request)
            assert request.info.grpc is not None
            request.info.grpc.end(response.status, response.headers, [])
    return stats


def totals(stats: Stats) -> dict[str, int]:
    return {prefix: found.total for prefix, found in stats.sets() if isinstance(found, GrpcStats)}


async def test_calls_are_counted_for_the_cluster() -> None:
    stats = await counted(b"/pkg.Service/A", b"/pkg.Service/B?x")
    assert totals(stats) == {"cluster.up.grpc": 2}
    calls = stats.grpc("up")
    assert (calls.success, calls.failure, calls.status__0, calls.request_message_count) == (2, 0, 2, 2)


async def test_a_call_that_fails_counts_under_its_status() -> None:
    calls = (await counted(b"/pkg.Service/A", status=14)).grpc("up")
    assert (calls.success, calls.failure, calls.status__14) == (0, 1, 1)
    assert dict(calls.items())["14"] == 1


async def test_methods_of_the_list_have_their_own_counts() -> None:
    methods = frozenset({("pkg.Service", "A")})
    stats = await counted(b"/pkg.Service/A", b"/pkg.Service/B", methods=methods)
    assert totals(stats) == {"cluster.up.grpc.pkg.Service.A": 1, "cluster.up.grpc": 1}


async def test_dots_can_be_replaced() -> None:
    stats = await counted(b"/pkg.Service/A", all_methods=True, replace_dots_in_service_name=True)
    assert totals(stats) == {"cluster.up.grpc.pkg_Service.A": 1}


@pytest.mark.parametrize("path", [b"/", b"/a", b"/a/b/c", b"/a/"])
async def test_a_path_that_names_no_method_is_not_counted(path: bytes) -> None:
    assert totals(await counted(path, all_methods=True)) == {}


async def test_clients_cannot_make_counters_without_end() -> None:
    paths = [b"/pkg.Service/M%d" % number for number in range(MOST_GRPC_METHODS + 10)]
    found = totals(await counted(*paths, all_methods=True))
    assert len(found) == MOST_GRPC_METHODS + 1
    assert sum(found.values()) == len(paths)


async def test_the_counters_of_a_removed_cluster_are_forgotten() -> None:
    stats = await counted(b"/pkg.Service/A")
    stats.forget_cluster("up")
    assert totals(stats) == {}


async def test_prometheus_has_envoys_labels() -> None:
    stats = Stats()
    for cluster in ("up", "a.grpc.test"):
        stats.cluster(cluster)
        stats.grpc(cluster, "pkg.grpc.Service.A").total += 1
    stats.grpc("up").total += 2
    stats.grpc("up", "pkg.grpc.Service.A", scope="grpc-web").total += 3
    report = StatsReport(counters=tuple(stats.sets()))
    page = "".join(prometheus_pieces(report, [], lambda name, value: True))
    lines = {line for line in page.splitlines() if line.startswith("envoy_cluster_grpc_total{")}
    method = 'envoy_grpc_bridge_service="pkg.grpc.Service",envoy_grpc_bridge_method="A"'
    assert lines == {
        f'envoy_cluster_grpc_total{{envoy_cluster_name="up",{method}}} 1',
        f'envoy_cluster_grpc_total{{envoy_cluster_name="a.grpc.test",{method}}} 1',
        'envoy_cluster_grpc_total{envoy_cluster_name="up"} 2',
    }
    assert page.count("# TYPE envoy_cluster_grpc_total counter") == 1
    assert f'\nenvoy_cluster_grpc_web_total{{envoy_cluster_name="up",{method}}} 3\n' in page
