from __future__ import annotations

import pytest

from sidecar.config.endpoint import HealthStatus
from sidecar.config.http_filters import HealthCheckConfig
from sidecar.filters.health_check import HealthCheckFilter
from sidecar.http.body import BodyStream
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response
from sidecar.router.exchange import RouterEnvironment
from sidecar.timers import Timers
from sidecar.upstream.cluster import Cluster
from tests.support.clusters import at_port, idle_cluster, static_cluster
from tests.support.filter_chains import filter_context
from tests.support.requests import make_request
from tests.support.routes import header, string
from tests.support.virtual_time import VirtualTime

PATH = (header(":path", string("/healthz")),)


class Upstream:
    """The rest of the chain, and its requests."""

    def __init__(self, status: int = 200, headers: Headers | None = None) -> None:
        self.status = status
        self.headers = headers or []
        self.asked = 0

    async def __call__(self, request: Request) -> Response:
        self.asked += 1
        return Response(self.status, list(self.headers))


def hosts(healthy: int, degraded: int, unhealthy: int) -> Cluster:
    states = [HealthStatus.HEALTHY] * healthy + [HealthStatus.DEGRADED] * degraded
    states += [HealthStatus.UNHEALTHY] * unhealthy
    return idle_cluster(static_cluster(*(at_port(80 + n, health=state) for n, state in enumerate(states))))


def answering(**percentages: int) -> HealthCheckConfig:
    return HealthCheckConfig(pass_through=False, headers=PATH, cluster_min_healthy_percentages=percentages)


async def test_other_requests_pass() -> None:
    upstream, request = Upstream(418), make_request(b"/books")
    response = await HealthCheckFilter(answering(), filter_context())(request, upstream)
    assert (response.status, response.headers) == (418, [])
    assert not request.info.health_check


async def test_a_health_check_is_answered_and_marked() -> None:
    upstream, request = Upstream(), make_request(b"/healthz")
    context = filter_context(local_cluster="productpage")
    response = await HealthCheckFilter(answering(), context)(request, upstream)
    assert response.status == 200
    assert response.headers == [(b"x-envoy-upstream-healthchecked-cluster", b"productpage")]
    assert (request.info.health_check, request.info.details) == (True, "health_check_ok")
    assert upstream.asked == 0


async def test_the_answer_follows_the_end_of_the_request() -> None:
    body = BodyStream()
    body.feed(b"a" * 1000)
    body.feed_end()
    request = make_request(b"/healthz", body=body)
    await HealthCheckFilter(answering(), filter_context())(request, Upstream())
    assert await body.read() == b""


@pytest.mark.parametrize(
    ("states", "percentage", "status", "details"),
    [
        ((1, 1, 2), 50, 200, "health_check_ok_cluster_healthy"),
        ((1, 1, 2), 51, 503, "health_check_failed_cluster_unhealthy"),
        ((0, 0, 1), 0, 200, "health_check_ok_cluster_healthy"),
        ((0, 0, 0), 1, 503, "health_check_failed_cluster_empty"),
        ((0, 0, 0), 0, 200, "health_check_ok_cluster_healthy"),
        (None, 0, 503, "health_check_failed_no_cluster_found"),
    ],
)
async def test_clusters_must_have_their_share_of_healthy_hosts(
    states: tuple[int, int, int] | None, percentage: int, status: int, details: str
) -> None:
    cluster = hosts(*states) if states is not None else None
    request = make_request(b"/healthz")
    check = HealthCheckFilter(answering(a=percentage), filter_context(lambda name: cluster))
    response = await check(request, Upstream())
    assert (response.status, request.info.details) == (status, details)
    assert request.info.flags == ("" if status == 200 else "LH")


async def test_one_cluster_that_is_not_healthy_is_enough() -> None:
    clusters = {"a": hosts(1, 0, 0), "b": hosts(0, 0, 1)}
    check = HealthCheckFilter(answering(a=100, b=100), filter_context(clusters.get))
    assert (await check(make_request(b"/healthz"), Upstream())).status == 503


class TestPassThrough:
    async def test_the_upstream_answers(self) -> None:
        upstream = Upstream(503, [(b"x-envoy-upstream-healthchecked-cluster", b"theirs")])
        check = HealthCheckFilter(HealthCheckConfig(pass_through=True, headers=PATH), filter_context())
        request = make_request(b"/healthz")
        response = await check(request, upstream)
        assert (response.status, response.headers) == (
            503,
            [(b"x-envoy-upstream-healthchecked-cluster", b"")],
        )
        assert (request.info.health_check, request.info.flags, upstream.asked) == (True, "", 1)

    async def test_the_answer_is_kept_until_the_end_of_its_period(self) -> None:
        time = VirtualTime()
        context = filter_context(env=RouterEnvironment(timers=Timers(time)))
        check = HealthCheckFilter(
            HealthCheckConfig(pass_through=True, cache_time_s=10.0, headers=PATH), context
        )
        upstream = Upstream(503, [(b"x-envoy-degraded", b"")])
        time.advance(4.0)
        await check(make_request(b"/healthz"), upstream)
        upstream.status = 200
        time.advance(5.9)
        request = make_request(b"/healthz")
        response = await check(request, upstream)
        assert (response.status, request.info.details) == (503, "health_check_cached")
        assert get_header(response.headers, b"x-envoy-degraded") == b""
        assert upstream.asked == 1
        time.advance(0.2)
        assert (await check(make_request(b"/healthz"), upstream)).status == 200
        assert upstream.asked == 2
