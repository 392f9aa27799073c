from __future__ import annotations

import asyncio
import random
import time

import pytest

from sidecar.back_off import BackOff
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.rotation import RotationPolicy, SvidRotation
from sidecar.identity.svid import SignedCertificate, Svid
from tests.support.identities import REVIEWS, TestTrustDomain, key_here

NEVER_EARLY = RotationPolicy(jitter=0.0)


class FakeTime:
    """A clock that moves only during sleeps; the loop ends when `until` is reached."""

    def __init__(self, until: float = 0.0) -> None:
        self.start = float(int(time.time()))
        self.now = self.start
        self.until = self.start + until
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self.now += delay_s
        if self.now > self.until:
            raise asyncio.CancelledError


class FlakyDomain(TestTrustDomain):
    """Fails with these errors, and does not answer the given number of requests."""

    __test__ = False
    failures: list[IdentityError]
    hangs = 0
    given_up = 0

    async def sign(self, signing_request: str) -> SignedCertificate:
        if self.hangs:
            self.hangs -= 1
            try:
                await asyncio.Future()
            finally:
                self.given_up += 1
        if self.failures:
            raise self.failures.pop()
        return await super().sign(signing_request)


def rotation_at(fake: FakeTime, *failures: IdentityError, policy: RotationPolicy = NEVER_EARLY):
    domain = FlakyDomain(lifetime_s=1000.0, clock=fake.clock)
    domain.failures = list(failures)
    renewed: list[Svid] = []

    rotation = SvidRotation(
        domain,
        REVIEWS,
        renewed.append,
        new_key=key_here,
        policy=policy,
        clock=fake.clock,
        sleep=fake.sleep,
        rng=random.Random(1),
    )
    return domain, rotation, renewed


def test_renewal_is_due_at_half_life_or_a_little_before() -> None:
    svid = TestTrustDomain(lifetime_s=1000.0).svid()
    moments = [RotationPolicy(jitter=0.1).renew_at(svid, random.Random(seed)) for seed in range(200)]
    assert svid.begins_s + 449 <= min(moments) < max(moments) <= svid.begins_s + 500
    assert max(moments) - min(moments) > 40, "sidecars that started together spread out"


def test_a_renewal_that_takes_long_begins_earlier_but_not_at_once() -> None:
    svid = TestTrustDomain(lifetime_s=1000.0).svid()
    moments = [NEVER_EARLY.renew_at(svid, random.Random(1), took_s) for took_s in (0.0, 100.0, 10_000.0)]
    assert [moment - svid.begins_s for moment in moments] == pytest.approx([500, 400, 250], abs=1)


async def test_a_busy_machine_has_the_next_certificate_at_half_life_too() -> None:
    fake = FakeTime(until=1400)
    domain, rotation, renewed = rotation_at(fake)

    async def sign(signing_request: str) -> SignedCertificate:
        fake.now += 100.0
        return domain.sign_for(REVIEWS, signing_request)

    domain.sign = sign
    await rotation.obtain_first()
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert [svid.begins_s - fake.start for svid in renewed] == [100, 600, 1100]


def test_retries_back_off_and_never_wait_long_for_a_short_life() -> None:
    svid = TestTrustDomain(lifetime_s=50.0).svid()
    policy = RotationPolicy(back_off=BackOff(base_s=1.0, max_s=60.0))
    longest = [max(policy.retry_after(n, None, random.Random(seed)) for seed in range(300)) for n in range(9)]
    assert longest == sorted(longest)
    assert 0.9 < longest[0] <= 1.0
    assert 55 < longest[-1] <= 60.0
    assert max(policy.retry_after(9, svid, random.Random(seed)) for seed in range(300)) <= 5.0


def test_two_requests_that_hang_leave_time_for_a_third_before_the_expiry() -> None:
    svid = TestTrustDomain(lifetime_s=20.0).svid()
    policy, life_s = RotationPolicy(), svid.expires_s - svid.begins_s
    assert policy.patience_s(svid) * (1 + 2) <= life_s * 3 / 8
    assert policy.patience_s(TestTrustDomain(lifetime_s=2.0).svid()) == 1.0


async def test_a_request_that_hangs_is_repeated() -> None:
    fake = FakeTime(until=600)
    impatient = RotationPolicy(jitter=0.0, patience_share=0.0, shortest_patience_s=0.01)
    domain, rotation, renewed = rotation_at(fake, policy=impatient)
    await rotation.obtain_first()
    domain.hangs = 2
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert len(renewed) == 2
    assert rotation.failures == 0
    assert domain.given_up == 2, "they do not go on when there is an answer"


async def test_a_slow_answer_is_taken_although_there_was_another_request() -> None:
    fake = FakeTime(until=600)
    impatient = RotationPolicy(jitter=0.0, patience_share=0.0, shortest_patience_s=0.01)
    domain, rotation, renewed = rotation_at(fake, policy=impatient)
    await rotation.obtain_first()
    asked: list[str] = []

    async def sign(signing_request: str) -> SignedCertificate:
        asked.append(signing_request)
        if len(asked) > 1:
            await asyncio.Future()
        while len(asked) < 2:
            await asyncio.sleep(0.001)
        return domain.sign_for(REVIEWS, signing_request)

    domain.sign = sign
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert len(renewed) == 2
    assert len(set(asked)) == 1, "one key"


async def test_a_certificate_from_an_authority_whose_clock_is_ahead_is_used_once_it_is_valid() -> None:
    fake = FakeTime(until=700)
    domain, rotation, renewed = rotation_at(fake)
    domain.clock = lambda: fake.clock() + 61.0
    await rotation.obtain_first()
    assert fake.now == fake.start + 60.0, "peers would refuse it before"
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert len(renewed) == 2
    assert [svid.begins_s for svid in renewed] == sorted(svid.begins_s for svid in renewed)


async def test_the_certificate_is_replaced_at_half_life_with_a_new_key() -> None:
    fake = FakeTime(until=1400)
    domain, rotation, renewed = rotation_at(fake)
    await rotation.obtain_first()
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert [svid.begins_s - fake.start for svid in renewed] == [0, 500, 1000]
    assert len({svid.key for svid in renewed}) == 3
    assert rotation.renewals == domain.signed == 3


async def test_a_renewal_that_is_asked_for_comes_within_the_longest_sleep_and_once() -> None:
    fake = FakeTime(until=400)
    _, rotation, renewed = rotation_at(fake)
    await rotation.obtain_first()
    rotation.renew_soon()
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert [svid.begins_s - fake.start for svid in renewed] == [0, 0]


async def test_a_control_plane_that_is_away_is_asked_again_and_the_old_certificate_serves_on() -> None:
    fake = FakeTime(until=1300)
    domain, rotation, renewed = rotation_at(fake)
    first = await rotation.obtain_first()
    domain.failures = [IdentityError("away")] * 3
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    assert rotation.failures == 3
    assert renewed[0] is first
    assert renewed[1].begins_s > fake.start + 500
    assert max(svid.begins_s for svid in renewed) < fake.start + 1300


async def test_the_first_certificate_is_waited_for() -> None:
    fake = FakeTime(until=1000)
    _, rotation, _ = rotation_at(fake, IdentityError("away"), IdentityError("away"))
    assert (await rotation.obtain_first()).spiffe_id == REVIEWS
    assert len(fake.slept) == 2


async def test_a_refusal_at_the_start_is_final() -> None:
    _, rotation, _ = rotation_at(FakeTime(until=1000), IdentityRefusedError("UNAUTHENTICATED"))
    with pytest.raises(IdentityRefusedError, match="UNAUTHENTICATED"):
        await rotation.obtain_first()
    assert rotation.svid is None
    assert rotation.seconds_until_expiry() is None


async def test_an_expiry_that_comes_close_is_warned_about_and_then_reported(caplog) -> None:
    fake = FakeTime(until=1100)
    domain, rotation, _ = rotation_at(fake)
    await rotation.obtain_first()
    domain.failures = [IdentityError("away")] * 10_000
    with pytest.raises(asyncio.CancelledError):
        await rotation.run()
    levels = [record.levelname for record in caplog.records]
    assert "WARNING" in levels
    assert levels[-1] == "ERROR"
    assert "expired" in caplog.records[-1].getMessage()
    assert rotation.seconds_until_expiry() < 0


async def test_a_cancelled_rotation_keeps_its_certificate() -> None:
    domain, rotation, _ = rotation_at(FakeTime(until=1000))
    asked = asyncio.Event()

    async def sign(signing_request: str) -> SignedCertificate:
        asked.set()
        return await asyncio.Future()

    first = await rotation.obtain_first()
    domain.sign = sign
    task = asyncio.create_task(rotation.run())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rotation.svid is first
