from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.node_agent.actions import ActionError
from tests.support.node_agent.probes import Probe, Tally, verdicts

PROBE = Probe.of({"periodSeconds": 0, "failureThreshold": 2, "successThreshold": 2})


def verdict_after(*results: bool, probe: Probe = PROBE) -> bool | None:
    tally = Tally()
    for result in results:
        tally = tally.count(result, probe)
    return tally.verdict


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        ([True], None),
        ([True, True], True),
        ([True, True, False], True),
        ([True, True, False, False], False),
        ([True, False, True, False], None),
        ([False, False, True, True], True),
    ],
)
def test_a_verdict_takes_as_many_results_in_a_row_as_its_threshold(
    results: list[bool], verdict: bool | None
) -> None:
    assert verdict_after(*results) is verdict


def test_missing_fields_of_a_probe_have_kubernetes_defaults() -> None:
    defaults = Probe.of({})
    assert (defaults.period_s, defaults.timeout_s, defaults.initial_delay_s) == (10, 1, 0)
    assert (defaults.failure_threshold, defaults.success_threshold) == (3, 1)


async def test_a_verdict_is_reported_once_with_the_reason() -> None:
    results = iter([True, True, True, False, False, False, True, True])

    async def ask() -> None:
        if not next(results, False):
            raise ActionError("statuscode 503")

    told = []
    async for verdict in verdicts(replace(PROBE, initial_delay_s=0.0), ask):
        told.append(verdict)
        if len(told) == 3:
            break
    assert told == [(True, ""), (False, "statuscode 503"), (True, "")]
