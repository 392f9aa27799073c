from __future__ import annotations

import asyncio
import random

import pytest

from sidecar.config.fraction import ALL, NONE, Fraction
from sidecar.config.http_filters import FaultAbort, FaultConfig, FaultDelay, FaultRateLimit
from sidecar.errors import FaultAbortError
from sidecar.filters.fault import FaultFilter, FaultStats
from sidecar.filters.registry import FILTERS
from sidecar.http.body import Body, BodyStream
from sidecar.http.message import Request, Response
from sidecar.router.exchange import RouterEnvironment
from sidecar.timers import Timers
from tests.support.filter_chains import filter_context
from tests.support.requests import make_request
from tests.support.virtual_time import VirtualTime

ABORT = FaultConfig(abort=FaultAbort(http_status=503, percentage=ALL))
RATE = FaultRateLimit(fixed_kib_per_s=1, percentage=ALL)
SLOW = FaultConfig(response_rate_limit=RATE)


class Faulty:
    """The filter in virtual time, with an upstream that answers with `body`."""

    def __init__(self, config: FaultConfig, body: Body | None = None) -> None:
        self.time = VirtualTime()
        self.asked = 0
        self._body = body
        env = RouterEnvironment(timers=Timers(self.time), rng=random.Random(7))
        context = filter_context(env=env, stat_prefix="x")
        self.stats = context.counters(FaultStats)
        self._filter = FaultFilter(config, context)

    async def _upstream(self, request: Request) -> Response:
        self.asked += 1
        return Response(200, [], Body(b"") if self._body is None else self._body)

    async def ask(self, request: Request | None = None) -> Response:
        return await self._filter(request or make_request(), self._upstream)

    def begin(self, request: Request | None = None) -> asyncio.Task[Response]:
        return asyncio.ensure_future(self.ask(request))


def share(numerator: int, denominator: int = 100) -> FaultConfig:
    percentage = Fraction(numerator=numerator, denominator=denominator)
    return FaultConfig(abort=FaultAbort(http_status=503, percentage=percentage))


async def test_an_aborted_request_does_not_reach_the_upstream() -> None:
    faulty, request = Faulty(ABORT), make_request()
    response = await faulty.ask(request)
    assert (response.status, response.body.whole) == (503, b"fault filter abort")
    assert (request.info.flags, request.info.details) == ("FI", "fault_filter_abort")
    assert request.info.failure is FaultAbortError
    assert (faulty.asked, faulty.stats.fault__aborts_injected) == (0, 1)


@pytest.mark.parametrize(("numerator", "denominator"), [(20, 100), (2_000, 10_000), (200_000, 1_000_000)])
async def test_a_share_of_the_requests_is_aborted(numerator: int, denominator: int) -> None:
    faulty = Faulty(share(numerator, denominator))
    for _ in range(5000):
        await faulty.ask()
    assert 887 < faulty.stats.fault__aborts_injected < 1113  # 1000, and four standard deviations
    assert faulty.asked == 5000 - faulty.stats.fault__aborts_injected


@pytest.mark.parametrize(
    ("config", "aborted"), [(share(0), 0), (share(100), 50), (share(10_001, 10_000), 50)]
)
async def test_none_and_all_are_exact(config: FaultConfig, aborted: int) -> None:
    faulty = Faulty(config)
    for _ in range(50):
        await faulty.ask()
    assert faulty.stats.fault__aborts_injected == aborted


async def test_a_delay_passes_before_the_upstream_is_asked() -> None:
    faulty = Faulty(FaultConfig(delay=FaultDelay(fixed_s=2.0, percentage=ALL)))
    request = make_request()
    exchange = faulty.begin(request)
    await asyncio.sleep(0)
    faulty.time.advance(1.9)
    await asyncio.sleep(0)
    assert (faulty.asked, faulty.stats.fault__active_faults) == (0, 1)
    faulty.time.advance(0.2)
    assert (await exchange).status == 200
    assert (request.info.flags, faulty.stats.fault__delays_injected) == ("DI", 1)
    assert faulty.stats.fault__active_faults == 0


async def test_a_client_that_leaves_ends_its_delay() -> None:
    faulty = Faulty(FaultConfig(delay=FaultDelay(fixed_s=1000.0, percentage=ALL)))
    exchange = faulty.begin()
    await asyncio.sleep(0)
    exchange.cancel()
    await asyncio.wait([exchange])
    assert (faulty.asked, faulty.stats.fault__active_faults) == (0, 0)


async def test_a_fault_is_active_until_the_response_has_ended() -> None:
    body = BodyStream()
    faulty = Faulty(FaultConfig(response_rate_limit=RATE, max_active_faults=1), body)
    first = await faulty.ask()
    assert faulty.stats.fault__active_faults == 1
    await faulty.ask()
    assert (faulty.stats.fault__response_rl_injected, faulty.stats.fault__faults_overflow) == (1, 1)
    first.body.close()
    assert faulty.stats.fault__active_faults == 0


async def test_a_slow_response_takes_its_time() -> None:
    faulty = Faulty(SLOW, Body(b"a" * 1024))
    response = await faulty.ask()
    received, started_s = b"", faulty.time.now
    while len(received) < 1024:
        reading = asyncio.ensure_future(response.body.read())
        await asyncio.sleep(0)
        while not reading.done():
            faulty.time.advance(1 / 16)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        received += reading.result()
    assert await response.body.read() == b""
    assert received == b"a" * 1024
    assert 0.9 < faulty.time.now - started_s <= 1.1


async def test_the_request_chooses_within_the_configured_percentage() -> None:
    config = FaultConfig(abort=FaultAbort(percentage=Fraction(numerator=50)))
    for asked, least, most in ((b"100", 900, 1100), (b"10", 130, 270), (b"0", 0, 0)):
        faulty = Faulty(config)
        headers = [
            (b"x-envoy-fault-abort-request", b"404"),
            (b"x-envoy-fault-abort-request-percentage", asked),
        ]
        for _ in range(2000):
            await faulty.ask(make_request(headers=list(headers)))
        assert least <= faulty.stats.fault__aborts_injected <= most


async def test_a_filter_without_faults_of_its_own_acts_on_routes_only() -> None:
    assert not FILTERS.acts_alone(FaultConfig())
    assert not FILTERS.acts_alone(FaultConfig(max_active_faults=1))
    for config in (ABORT, SLOW, FaultConfig(delay=FaultDelay(fixed_s=None, percentage=NONE))):
        assert FILTERS.acts_alone(config)
