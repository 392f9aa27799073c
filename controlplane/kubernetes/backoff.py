"""How long to wait for an API server that is away, or refuses: longer each time, and never all at once."""

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
    """Doubles from ``first_delay_s`` to ``longest_delay_s``, and half of it is chance."""

    first_delay_s: float = 0.1
    longest_delay_s: float = 10.0

    def delay_s(self, failures: int, rng: Random) -> float:
        """After so many failures in a row; 0 after none."""
        if failures == 0:
            return 0.0
        doubled = self.first_delay_s * 2.0 ** min(failures - 1, 16)
        return jittered_s(min(doubled, self.longest_delay_s), rng)


def jittered_s(time_s: float, rng: Random) -> float:
    """Half of it is chance: whoever failed together does not come back together."""
    return time_s * rng.uniform(0.5, 1.0)


_DEFAULT: Final = Backoff()


async def until_answered(
    ask: Callable[[], Awaitable[Answer]], complaint: str, *, backoff: Backoff = _DEFAULT
) -> Answer:
    """Asks until the API server gives what is asked for, however long that takes: it may be away, or a role
    may be bound a moment later. Meanwhile the log says ``complaint``, and why: once for each reason."""
    rng, reason, failures = Random(), "", 0
    while True:
        try:
            return await ask()
        except KubernetesError as error:
            failures += 1
            if str(error) != reason:
                reason = str(error)
                _LOG.warning("%s; tried again until it can be had: %s", complaint, reason)
        await asyncio.sleep(backoff.delay_s(failures, rng))
