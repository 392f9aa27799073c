from __future__ import annotations

import asyncio
import random

from sidecar.config.fraction import NONE, Fraction
from sidecar.config.http_filters import CorsConfig, CorsPolicy
from sidecar.config.listener import HttpConnectionManager, HttpFilter
from sidecar.config.route import ForwardAction, PerFilterConfig, WeightedCluster
from sidecar.filters.chain import FilterContext, HttpFilterChain
from sidecar.filters.cors import CorsStats
from sidecar.filters.registry import FILTERS
from sidecar.http.headers import Headers, get_header
from sidecar.http.message import Request, Response
from sidecar.router.exchange import RouterEnvironment
from sidecar.router.match import RouteTable, RouteTableRef
from sidecar.timers import Timers
from tests.support.filter_chains import ROUTER, filter_chain, filter_context
from tests.support.requests import make_request
from tests.support.routes import configuration, prefix, route, string, virtual_host

ORIGIN = b"https://a.test"
POLICY = CorsPolicy(allow_origins=(string("https://a.test"),))
UPSTREAMS: Headers = [(b"access-control-allow-origin", b"*"), (b"x-from-upstream", b"yes")]


async def upstream(request: Request) -> Response:
    return Response(200, UPSTREAMS)


class Site:
    """A chain with the filter. `levels`: the policies of the virtual host, the route and the cluster."""

    def __init__(self, *levels: CorsPolicy) -> None:
        entries: list[PerFilterConfig] = [{"cors": level} for level in levels]
        host, of_route, of_cluster = [*entries, {}, {}, {}][:3]
        action = ForwardAction(clusters=(WeightedCluster(name="a", per_filter_config=of_cluster),))
        hosts = virtual_host(route(prefix(), action, per_filter_config=of_route), per_filter_config=host)
        self.context: FilterContext = filter_context(
            env=RouterEnvironment(timers=Timers(asyncio.get_running_loop()), rng=random.Random(7))
        )
        manager = HttpConnectionManager(
            stat_prefix="x", http_filters=(HttpFilter(name="cors", config=CorsConfig()), ROUTER)
        )
        self.chain: HttpFilterChain = filter_chain(
            manager,
            routes=RouteTableRef(RouteTable(configuration(hosts), FILTERS.compile_route_config)),
            router=upstream,
            context=self.context,
        )

    @property
    def stats(self) -> CorsStats:
        return self.context.stats.counters("http.x", CorsStats)

    async def ask(self, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> Response:
        return await self.chain(make_request(method=method, headers=list(headers)))

    async def preflight(self, origin: bytes = ORIGIN) -> Response:
        asked = (b"access-control-request-method", b"PUT")
        return await self.ask((b"origin", origin), asked, method=b"OPTIONS")


def allowed(response: Response) -> bytes | None:
    return get_header(response.headers, b"access-control-allow-origin")


async def test_a_response_names_the_origin_that_may_read_it() -> None:
    site = Site(CorsPolicy(allow_origins=POLICY.allow_origins, expose_headers="x-a", allow_credentials=True))
    response = await site.ask((b"origin", ORIGIN))
    assert response.headers == [
        (b"x-from-upstream", b"yes"),
        (b"access-control-allow-origin", ORIGIN),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"x-a"),
    ]
    assert len(UPSTREAMS) == 2  # a constant stays as it is
    assert (site.stats.cors__origin_valid, site.stats.cors__origin_invalid) == (1, 0)


async def test_another_origin_learns_what_the_application_says() -> None:
    site = Site(POLICY)
    assert allowed(await site.ask((b"origin", b"https://b.test"))) == b"*"
    assert (site.stats.cors__origin_valid, site.stats.cors__origin_invalid) == (0, 1)


async def test_a_request_without_an_origin_passes() -> None:
    site = Site(POLICY)
    assert (await site.ask()).headers is UPSTREAMS
    assert (site.stats.cors__origin_valid, site.stats.cors__origin_invalid) == (0, 0)


async def test_a_route_without_a_policy_does_not_pass_the_filter() -> None:
    request = make_request(headers=[(b"origin", ORIGIN)])
    assert (await Site().chain(request)).headers is UPSTREAMS
    assert request.resolver is None


async def test_an_attribute_is_that_of_the_most_specific_level_that_has_it() -> None:
    site = Site(
        CorsPolicy(allow_methods="GET", allow_headers="x-host", max_age="1", allow_credentials=True),
        CorsPolicy(allow_origins=POLICY.allow_origins, allow_methods="PUT", allow_headers="x-route"),
        CorsPolicy(allow_methods="POST", allow_credentials=False),
    )
    assert (await site.preflight()).headers == [
        (b"access-control-allow-origin", ORIGIN),
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", b"x-route"),
        (b"access-control-max-age", b"1"),
    ]


async def test_a_preflight_of_another_origin_is_forwarded_unless_the_policy_keeps_it() -> None:
    assert (await Site(POLICY).preflight(b"https://b.test")).headers is UPSTREAMS
    kept = CorsPolicy(allow_origins=POLICY.allow_origins, forward_not_matching_preflights=False)
    response = await Site(kept).preflight(b"https://b.test")
    assert (response.status, response.headers) == (200, [])


async def test_the_most_specific_level_decides_whether_the_policy_is_in_force() -> None:
    off = CorsPolicy(enabled=NONE)
    site = Site(POLICY, off, off)
    assert allowed(await site.ask((b"origin", ORIGIN))) == b"*"
    assert (site.stats.cors__origin_valid, site.stats.cors__origin_invalid) == (0, 0)


async def test_a_policy_in_the_shadow_only_counts() -> None:
    shadow = CorsPolicy(enabled=NONE, shadow_enabled=Fraction(numerator=10_000, denominator=10_000))
    site = Site(POLICY, shadow, shadow)
    assert allowed(await site.ask((b"origin", ORIGIN))) == b"*"
    assert allowed(await site.preflight()) == b"*"
    assert site.stats.cors__origin_valid == 2


async def test_a_policy_can_be_in_force_for_a_share_of_the_requests() -> None:
    share = CorsPolicy(enabled=Fraction(numerator=25))
    site = Site(POLICY, share, share)
    named = [allowed(await site.ask((b"origin", ORIGIN))) == ORIGIN for _ in range(2000)]
    assert 420 < sum(named) < 580  # 500, and four standard deviations
    assert site.stats.cors__origin_valid == sum(named)
