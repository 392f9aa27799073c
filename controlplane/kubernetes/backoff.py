"""Delays between attempts to reach an API server: exponential, with jitter."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from controlplane.errors import KubernetesError

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The delay doubles from ``first_delay_s`` to ``longest_delay_s``; half of each delay is random."""

    first_delay_s: float = 0.1
    longest_delay_s: float = 10.0

    def delay_s(self, failures: int, rng: Random) -> float:
        """Returns the delay after ``failures`` consecutive failures: 0 without a failure."""
        if failures == 0:
            return 0.0
        doubled = self.first_delay_s * 2.0 ** min(failures - 1, 16)
        return jittered_s(min(doubled, self.longest_delay_s), rng)


def jittered_s(time_s: float, rng: Random) -> float:
    """Returns a random time between half of ``time_s`` and ``time_s``, so that clients that failed together
    do not retry together."""
    return time_s * rng.uniform(0.5, 1.0)


_DEFAULT: Final = Backoff()


async def until_answered(
    ask: Callable[[], Awaitable[Answer]], warning: str, *, backoff: Backoff = _DEFAULT
) -> Answer:
    """Calls ``ask`` until it succeeds, without a time limit: the API server may be unreachable, or a role may
    be bound a moment later. Logs ``warning`` with the reason, once for each reason."""
    rng, reason, failures = Random(), "", 0
    while True:
        try:
            return await ask()
        except KubernetesError as error:
            failures += 1
            if str(error) != reason:
                reason = str(error)
                _LOG.warning("%s; trying again: %s", warning, reason)
        await asyncio.sleep(backoff.delay_s(failures, rng))
