from __future__ import annotations

import logging
from random import Random

import pytest

from controlplane.errors import KubernetesError, RefusedError, SettingsError, UnreachableError
from controlplane.kubernetes.backoff import Backoff, until_answered

QUICK = Backoff(first_delay_s=0.001, longest_delay_s=0.002)


def test_it_doubles_up_to_the_longest_and_half_of_it_is_chance() -> None:
    backoff, rng = Backoff(first_delay_s=1.0, longest_delay_s=10.0), Random(1)
    for failures, delay_s in ((0, 0.0), (1, 1.0), (2, 2.0), (3, 4.0), (5, 10.0), (10_000, 10.0)):
        delays = [backoff.delay_s(failures, rng) for _ in range(100)]
        assert all(delay_s / 2 <= each <= delay_s for each in delays)
        assert len(set(delays)) == (100 if failures else 1)


async def test_a_failed_request_is_repeated_and_each_reason_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away, forbidden = UnreachableError("no route"), RefusedError(403, "forbidden")
    failures: list[KubernetesError] = [away, away, forbidden, forbidden, away]

    async def ask() -> str:
        if failures:
            raise failures.pop(0)
        return "answer"

    caplog.set_level(logging.WARNING)
    assert await until_answered(ask, "there is no key", backoff=QUICK) == "answer"
    reasons = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert reasons == ["no route", "forbidden", "no route"]
    assert all(record.getMessage().startswith("there is no key; ") for record in caplog.records)


async def test_a_settings_error_is_not_retried() -> None:
    async def ask() -> str:
        raise SettingsError("the Secret cannot sign")

    with pytest.raises(SettingsError):
        await until_answered(ask, "there is no key", backoff=QUICK)
