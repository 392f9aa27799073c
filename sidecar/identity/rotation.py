"""Renews the workload's certificate at half its life, and retries while the old one is in use."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from protos.spiffe import SpiffeId
from sidecar.back_off import BackOff
from sidecar.errors import IdentityError, IdentityRefusedError
from sidecar.identity.pending_key import PendingKey, pending_key
from sidecar.identity.svid import SignedCertificate, Svid

_LOG = logging.getLogger(__name__)

# A suspended process or a corrected clock is noticed within this time.
_LONGEST_SLEEP_S: Final = 30.0
# An authority that is about to expire signs for a very short time; this avoids a busy loop.
_SHORTEST_HALF_LIFE_S: Final = 0.2


class Signer(Protocol):
    async def sign(self, signing_request: str) -> SignedCertificate:
        """Raises `IdentityError`."""


_BACK_OFF: Final = BackOff(base_s=0.5, max_s=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPolicy:
    """When to renew. ``jitter``: the share of half a life by which a renewal may come earlier, so that
    sidecars that started together spread out. ``patience_share``: the share of life after which a request
    that is not answered is repeated, and at least ``shortest_patience_s``; half of the life is left.
    ``warn_share``: the remaining share of life from which a failed renewal is a warning."""

    jitter: float = 0.25
    patience_share: float = 1 / 8
    shortest_patience_s: float = 1.0
    back_off: BackOff = _BACK_OFF
    warn_share: float = 0.25

    def renew_at(self, svid: Svid, rng: random.Random, took_s: float = 0.0) -> float:
        """Seconds since the epoch. The life counts from the first use, since authorities backdate
        certificates. A renewal that takes ``took_s`` begins so much earlier, but not in the first quarter."""
        half_life_s = max((svid.expires_s - svid.begins_s) / 2, _SHORTEST_HALF_LIFE_S)
        age_s = half_life_s * (1 - self.jitter * rng.random()) - took_s
        return svid.begins_s + max(age_s, half_life_s / 2)

    def retry_after(self, failures: int, svid: Svid | None, rng: random.Random) -> float:
        """In seconds, with full jitter; at most a tenth of the life of the certificate to replace."""
        longest_s = self.back_off.longest_s(failures + 1)
        if svid is not None:
            longest_s = min(longest_s, (svid.expires_s - svid.begins_s) / 10)
        return rng.uniform(0, longest_s)

    def patience_s(self, svid: Svid) -> float:
        """How long a request to replace ``svid`` may be unanswered before there is another one."""
        return max(self.patience_share * (svid.expires_s - svid.begins_s), self.shortest_patience_s)

    def is_close_to_expiry(self, svid: Svid, now: float) -> bool:
        return svid.expires_s - now < self.warn_share * (svid.expires_s - svid.begins_s)


class SvidRotation:
    """The workload's current SVID, and the task that replaces it.

    ``on_renewed`` puts each new SVID in use; it does not wait until all workers have it. ``clock`` is wall
    time, as in certificates.
    """

    def __init__(
        self,
        signer: Signer,
        spiffe_id: SpiffeId,
        on_renewed: Callable[[Svid], None],
        *,
        new_key: Callable[[SpiffeId], AbstractAsyncContextManager[PendingKey]] = pending_key,
        policy: RotationPolicy | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._signer: Final = signer
        self._spiffe_id: Final = spiffe_id
        self._on_renewed: Final = on_renewed
        self._new_key: Final = new_key
        self._policy: Final = policy or RotationPolicy()
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._rng: Final = rng or random.Random()
        self._asked = False
        self._took_s = 0.0
        self.svid: Svid | None = None
        self.renewals = 0
        self.failures = 0

    def seconds_until_expiry(self) -> float | None:
        """Negative after the expiry; None before the first certificate."""
        return None if self.svid is None else self.svid.expires_s - self._clock()

    def renew_soon(self) -> None:
        """Renews within `_LONGEST_SLEEP_S`. Called when the mesh's roots have changed: the trust bundle
        comes with the certificate. The sleep spreads the renewals of sidecars that notice it together."""
        self._asked = True

    async def obtain_first(self) -> Svid:
        """Waits for an unavailable control plane. Raises `IdentityRefusedError` when it refuses."""
        failures = 0
        while True:
            try:
                return await self._renew()
            except IdentityRefusedError:
                raise
            except IdentityError as error:
                _LOG.warning("no certificate yet: %s", error)
                await self._sleep(self._policy.retry_after(failures, None, self._rng))
                failures += 1

    async def run(self) -> None:
        """Renews until it is cancelled, after `obtain_first`. After a failure the current certificate stays
        in use."""
        while True:
            svid = self.svid
            assert svid is not None
            await self._sleep_until(self._policy.renew_at(svid, self._rng, self._took_s))
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
        """Requests a certificate with a new key, and puts it in use. Raises `IdentityError`."""
        began_s = self._clock()
        try:
            async with self._new_key(self._spiffe_id) as key:
                signed = await self._signed(await key.signing_request())
                svid = await key.accept(signed, self._clock())
        except IdentityError:
            self.failures += 1
            raise
        self._took_s = max(0.0, self._clock() - began_s)
        if (ahead_s := svid.begins_s - self._clock()) > 0:
            _LOG.warning("the clock of the authority is ahead: the certificate is used in %.0f s", ahead_s)
            await self._sleep(ahead_s)
        self.svid = svid
        self.renewals += 1
        _LOG.info("certificate of %s: valid for %.0f s", svid.spiffe_id, svid.expires_s - svid.begins_s)
        self._on_renewed(svid)
        return svid

    async def _signed(self, signing_request: str) -> SignedCertificate:
        """The first answer. A request that hangs must not outlast the certificate in use, and on a busy
        machine each takes long: it continues while others follow, each after twice the time."""
        if self.svid is None:
            return await self._signer.sign(signing_request)
        patience_s = self._policy.patience_s(self.svid)
        asked: list[asyncio.Task[SignedCertificate]] = []
        try:
            while True:
                asked.append(asyncio.create_task(self._signer.sign(signing_request), name="sign"))
                answered, _ = await asyncio.wait(
                    asked, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                if answered:
                    return answered.pop().result()
                patience_s *= 2
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

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
            _LOG.info("the certificate is not renewed yet: %s", error)
