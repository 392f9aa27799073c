"""Probes: successes, failures, and the loop that executes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.actions import ActionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A container's `startupProbe`, `readinessProbe` or `livenessProbe`."""

    action: Resource
    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int
    grace_s: float | None  # of the container when the probe ends it; None: the pod's

    @classmethod
    def of(cls, spec: Resource) -> Probe:
        return cls(
            action=spec,
            initial_delay_s=spec.get("initialDelaySeconds", 0),
            period_s=spec.get("periodSeconds", 10),
            timeout_s=spec.get("timeoutSeconds", 1),
            success_threshold=spec.get("successThreshold", 1),
            failure_threshold=spec.get("failureThreshold", 3),
            grace_s=spec.get("terminationGracePeriodSeconds"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often in a row a probe has had the same result; `verdict` changes at the probe's thresholds."""

    last: bool | None = None
    times: int = 0
    verdict: bool | None = None

    def count(self, success: bool, probe: Probe) -> Tally:
        times = self.times + 1 if success is self.last else 1
        threshold = probe.success_threshold if success else probe.failure_threshold
        verdict = success if times >= threshold else self.verdict
        return replace(self, last=success, times=times, verdict=verdict)


async def verdicts(probe: Probe, ask: Callable[[], Awaitable[None]]) -> AsyncIterator[tuple[bool, str]]:
    """Yields each changed verdict, with the reason of the last failure. `ask` raises ActionError."""
    await asyncio.sleep(probe.initial_delay_s)
    loop = asyncio.get_running_loop()
    tally = Tally()
    while True:
        asked_at_s = loop.time()
        try:
            await ask()
            success, words = True, ""
        except ActionError as error:
            success, words = False, str(error)
        before, tally = tally.verdict, tally.count(success, probe)
        if tally.verdict is not None and tally.verdict is not before:
            yield tally.verdict, words
        await asyncio.sleep(asked_at_s + probe.period_s - loop.time())
