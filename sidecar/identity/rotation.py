"""Keeps the workload's certificate fresh: renewed at half life, retried while the old one still serves."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from protos.spiffe import SpiffeId
from sidecar.back_off import back_off_limit_s
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate, Svid, accept

_LOG = logging.getLogger(__name__)

# A suspended or corrected clock is noticed within this time.
_LONGEST_SLEEP_S: Final = 30.0
# An authority that is about to expire signs for moments only; it is not asked in a tight loop.
_SHORTEST_HALF_LIFE_S: Final = 0.2


class Signer(Protocol):
    async def sign(self, signing_request: str) -> SignedCertificate:
        """Raises `IdentityError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPolicy:
    """When to renew. ``jitter`` is the share of half a life by which sidecars that started together spread
    out, always to the early side. ``warn_share``: how much of its life is left when an overdue certificate
    is worth a warning."""

    jitter: float = 0.1
    back_off_base_s: float = 0.5
    back_off_max_s: float = 60.0
    warn_share: float = 0.25

    def renew_at(self, svid: Svid, rng: random.Random) -> float:
        """Seconds since the epoch. The life counts from receipt: authorities backdate."""
        half_life_s = max((svid.expires_s - svid.received_s) / 2, _SHORTEST_HALF_LIFE_S)
        return svid.received_s + half_life_s * (1 - self.jitter * rng.random())

    def retry_after(self, failures: int, svid: Svid | None, rng: random.Random) -> float:
        """Full jitter, at most a tenth of the life of the certificate that is to be replaced."""
        longest_s = self.back_off_max_s
        if svid is not None:
            longest_s = min(longest_s, (svid.expires_s - svid.received_s) / 10)
        return rng.uniform(0, back_off_limit_s(failures + 1, base_s=self.back_off_base_s, max_s=longest_s))

    def is_close_to_expiry(self, svid: Svid, now: float) -> bool:
        return svid.expires_s - now < self.warn_share * (svid.expires_s - svid.received_s)


class SvidRotation:
    """The workload's current SVID, and the task that replaces it.

    ``on_renewed`` is called with each new one. ``clock`` is wall time (certificates are), ``sleep`` and
    ``rng`` are injected for tests.
    """

    def __init__(
        self,
        signer: Signer,
        spiffe_id: SpiffeId,
        on_renewed: Callable[[Svid], None],
        *,
        policy: RotationPolicy | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._signer: Final = signer
        self._spiffe_id: Final = spiffe_id
        self._on_renewed: Final = on_renewed
        self._policy: Final = policy or RotationPolicy()
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._rng: Final = rng or random.Random()
        self._asked = False
        self.svid: Svid | None = None
        self.renewals = 0
        self.failures = 0

    def seconds_until_expiry(self) -> float | None:
        """Negative once it expired; None before the first certificate. A gauge for the statistics."""
        return None if self.svid is None else self.svid.expires_s - self._clock()

    def renew_soon(self) -> None:
        """Renews soon: the mesh's roots have changed, and the bundle by which this workload verifies others
        comes with its certificate. The longest sleep spreads sidecars that notice it at the same time."""
        self._asked = True

    async def obtain_first(self) -> Svid:
        """Waits for a control plane that is away; raises `IdentityRefusedError` when it says no."""
        failures = 0
        while True:
            try:
                return await self._renew()
            except IdentityRefusedError:
                raise
            except IdentityError as error:
                _LOG.warning("still without a certificate: %s", error)
                await self._sleep(self._policy.retry_after(failures, None, self._rng))
                failures += 1

    async def run(self) -> None:
        """Renews for ever, after `obtain_first`. Whatever fails, the certificate at hand goes on serving."""
        while True:
            svid = self.svid
            assert svid is not None
            await self._sleep_until(self._policy.renew_at(svid, self._rng))
            self._asked = False
            failures = 0
            while self.svid is svid:
                try:
                    await self._renew()
                except IdentityError as error:
                    self._report(error, svid)
                    await self._sleep(self._policy.retry_after(failures, svid, self._rng))
                    failures += 1

    async def _renew(self) -> Svid:
        """A fresh key each time: a certificate's end is its key's end."""
        try:
            key = WorkloadKey()
            signed = await self._signer.sign(key.signing_request(self._spiffe_id))
            svid = accept(signed, key, self._spiffe_id, self._clock())
        except IdentityError:
            self.failures += 1
            raise
        self.svid = svid
        self.renewals += 1
        _LOG.info("certificate of %s: valid for %.0f s", svid.spiffe_id, svid.expires_s - svid.received_s)
        self._on_renewed(svid)
        return svid

    async def _sleep_until(self, deadline: float) -> None:
        while not self._asked and (left_s := deadline - self._clock()) > 0:
            await self._sleep(min(left_s, _LONGEST_SLEEP_S))

    def _report(self, error: IdentityError, svid: Svid) -> None:
        now = self._clock()
        if now >= svid.expires_s:
            _LOG.error("the certificate expired %.0f s ago: %s", now - svid.expires_s, error)
        elif self._policy.is_close_to_expiry(svid, now):
            _LOG.warning("the certificate expires in %.0f s: %s", svid.expires_s - now, error)
        else:
            _LOG.info("the certificate was not renewed yet: %s", error)
