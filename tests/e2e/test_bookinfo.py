"""A day in the life of a mesh whose control plane follows a folder. The cluster has its own tests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from outrigger.demo.bookinfo import CALLERS, principal
from outrigger.demo.figures import check_shares
from outrigger.demo.load import Load, Results
from outrigger.demo.observe import Hop
from tests.support.bookinfo_folder import BookinfoInFolder, bookinfo_in_folder, example
from tests.support.kubernetes_api import eventually

RATE_PER_S = 25.0
CONVERGED_WITHIN_S = 2.0
OUTAGE_S = 5.0
REQUESTS_DEADLINE_S = 60.0
ENOUGH = 100  # requests, to see how they are shared out


@pytest.fixture
async def bookinfo(tmp_path: Path) -> AsyncIterator[BookinfoInFolder]:
    async with bookinfo_in_folder(tmp_path) as mesh:
        yield mesh


@pytest.mark.timeout(200)
async def test_bookinfo_is_served_without_a_failure_during_all_disruptions(
    bookinfo: BookinfoInFolder,
) -> None:
    await bookinfo.apply(*example("reviews-v1"))
    async with load(bookinfo.url) as sent:
        await traffic_follows(sent, {"v1": 100})
        up_s = time.monotonic()
        for step in (
            a_virtual_service_shifts_traffic,
            scaling_under_load,
            a_broken_virtual_service,
            an_outage_of_the_control_plane,
            every_hop_is_mtls,
        ):
            await step(bookinfo, sent)
            failed = sent.results.since(up_s).failed()
            assert not failed, (step.__name__, failed[:3])


async def a_virtual_service_shifts_traffic(bookinfo: BookinfoInFolder, sent: Load) -> None:
    await bookinfo.apply(*example("reviews-90-10"))
    since_s = time.monotonic() + CONVERGED_WITHIN_S
    check = check_shares((await enough(sent, since_s)).versions(), {"v1": 90, "v2": 10})
    assert check.ok, check.detail


async def scaling_under_load(bookinfo: BookinfoInFolder, sent: Load) -> None:
    await bookinfo.apply(*example("reviews-v1"))
    await bookinfo.scale_reviews_v1(4)
    await eventually_spread_over(sent, 4)
    await bookinfo.scale_reviews_v1(2)
    await eventually_spread_over(sent, 2)


async def a_broken_virtual_service(bookinfo: BookinfoInFolder, sent: Load) -> None:
    """A schema cannot check a regular expression: the control plane must."""
    (broken,) = example("reviews-jason-v3")
    broken["spec"]["http"][0]["match"][0]["headers"]["end-user"] = {"regex": "jason("}
    await bookinfo.apply(broken)
    complaint = await eventually(lambda: bookinfo.complaint("VirtualService", "reviews"), "a complaint")
    assert "spec.http[0].match[0].headers.end-user.regex: 'jason(' is not an RE2" in complaint
    after = await enough(sent, time.monotonic())
    assert after.versions().keys() == {"v1"}

    await bookinfo.apply(*example("reviews-50-50"))

    async def is_mended() -> bool:
        return not await bookinfo.complaint("VirtualService", "reviews")

    await eventually(is_mended, "no complaint any more")


async def an_outage_of_the_control_plane(bookinfo: BookinfoInFolder, sent: Load) -> None:
    began_s = time.monotonic()
    await bookinfo.kill_control_plane()
    during = await enough(sent, began_s + OUTAGE_S, count=1)
    assert during.versions().keys() <= {"v1", "v2"}
    await bookinfo.start_control_plane()
    await bookinfo.apply(*example("reviews-jason-v3"))
    await traffic_follows(sent, {"v1": 75, "v3": 25})


async def every_hop_is_mtls(bookinfo: BookinfoInFolder, sent: Load) -> None:
    """By who they are: as their service accounts' tokens proved."""
    for service, caller in CALLERS.items():
        taken_in = await bookinfo.hops(service)
        expected = Counter({Hop(principal(caller), service, "mutual_tls"): taken_in.total()})
        assert taken_in == expected != Counter(), service


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    sending = Load(url, rate_per_s=RATE_PER_S)
    task = asyncio.create_task(sending.run(), name="load")
    try:
        yield sending
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def enough(sent: Load, since_s: float, *, count: int = ENOUGH) -> Results:
    """What came of the requests that were sent from then on, once it is so many."""

    async def they_came() -> Results | None:
        results = sent.results.since(since_s)
        return results if len(results) >= count else None

    return await eventually(they_came, f"{count} requests", deadline_s=REQUESTS_DEADLINE_S)


async def traffic_follows(sent: Load, weights: dict[str, int]) -> None:
    """Sooner or later."""

    async def it_does() -> bool:
        recent = Results(sent.results[-ENOUGH:])
        return len(recent) == ENOUGH and check_shares(recent.versions(), weights).ok

    await eventually(it_does, f"traffic follows {weights}")


async def eventually_spread_over(sent: Load, pods: int) -> None:
    async def they_are() -> bool:
        recent = Results(sent.results[-ENOUGH:])
        return len(recent) == ENOUGH and len(recent.pods()) == pods and recent.versions().keys() == {"v1"}

    await eventually(they_are, f"{pods} pods of reviews v1 answer, and no others")
