"""Leader election with a Lease of ``coordination.k8s.io/v1``, like client-go's `leaderelection`.

Clocks of different machines are never compared: a candidate measures time from the moment at which it saw the
Lease change. A leader that cannot renew the Lease stops ``renew_deadline_s`` after its last successful
renewal began, which is before another candidate takes the Lease.
https://pkg.go.dev/k8s.io/client-go/tools/leaderelection
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, Protocol

from controlplane.errors import KubernetesError, RefusedError

_LOG = logging.getLogger(__name__)

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_RELEASE_TIMEOUT_S: Final = 2.0

Document = dict[str, Any]


class LeaseApi(Protocol):
    """The requests that an election sends to the API server. All raise `KubernetesError`."""

    async def get(self, path: str) -> Document: ...

    async def create(self, path: str, document: Document) -> Document: ...

    async def replace(self, path: str, document: Document) -> Document: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """client-go's LeaseDuration, RenewDeadline and RetryPeriod; each must be longer than the next."""

    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class Candidate:
    """A candidate for a Lease, with the state in which it last saw the Lease. No I/O; ``now_s`` is the time
    of a monotonic clock."""

    def __init__(self, namespace: str, name: str, identity: str, timing: LeaseTiming) -> None:
        self.identity: Final = identity
        self._metadata: Final = {"namespace": namespace, "name": name}
        self._timing: Final = timing
        self._seen: Document | None = None
        self._seen_at_s = 0.0

    @property
    def exists(self) -> bool:
        return self._seen is not None

    @property
    def holder(self) -> str:
        """The current or last holder of the Lease. Empty when the Lease was released or does not exist."""
        return str(self._spec.get("holderIdentity") or "")

    @property
    def leads(self) -> bool:
        return self.holder == self.identity

    def saw(self, lease: Document | None, now_s: float) -> None:
        """Records the Lease as the API server returned it; None when it does not exist."""
        before = self._spec if self.exists else None
        self._seen = lease
        if lease is None or self._spec != before:
            self._seen_at_s = now_s

    def may_claim(self, now_s: float) -> bool:
        """Whether this candidate holds the Lease, or the Lease is free, or its holder did not renew it for
        its ``leaseDurationSeconds``."""
        lasts_s = float(self._spec.get("leaseDurationSeconds") or 0)
        return self.holder in ("", self.identity) or now_s - self._seen_at_s >= lasts_s

    def claim(self, now: datetime) -> Document:
        """Returns the Lease that this candidate writes to acquire or renew it."""
        stamp, spec = _micro_time(now), self._spec
        transitions = int(spec.get("leaseTransitions") or 0)
        return self._lease(
            holderIdentity=self.identity,
            leaseDurationSeconds=max(1, math.ceil(self._timing.duration_s)),
            acquireTime=spec.get("acquireTime", stamp) if self.leads else stamp,
            renewTime=stamp,
            leaseTransitions=transitions + (self.exists and not self.leads),
        )

    def release(self, now: datetime) -> Document:
        """Returns a Lease without a holder, which another candidate can acquire at once."""
        stamp = _micro_time(now)
        return self._lease(
            holderIdentity="",
            leaseDurationSeconds=1,
            acquireTime=stamp,
            renewTime=stamp,
            leaseTransitions=int(self._spec.get("leaseTransitions") or 0),
        )

    @property
    def _spec(self) -> Document:
        return (self._seen or {}).get("spec") or {}

    def _lease(self, **spec: object) -> Document:
        metadata = self._seen["metadata"] if self._seen else self._metadata
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


class Election:
    """Takes part in the election until cancelled. Calls ``on_leading`` with True when this process begins to
    lead, and with False when it stops."""

    def __init__(
        self,
        api: LeaseApi,
        *,
        namespace: str,
        name: str,
        timing: LeaseTiming,
        on_leading: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        self._api: Final = api
        self._collection: Final = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path: Final = f"{self._collection}/{name}"
        self._timing: Final = timing
        self._candidate: Final = Candidate(namespace, name, _new_identity(), timing)
        self._on_leading: Final = on_leading
        self._clock: Final = clock
        self._rng: Final = rng or Random()
        self._last_warning = ""

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``lead`` whenever this process acquires the Lease, and cancels it when the Lease is lost.

        Releases the Lease when cancelled. Propagates the exceptions of ``lead``.
        """
        try:
            while True:
                began_s = await self._acquire()
                await self._lead(lead, began_s)
        finally:
            await self._release()

    async def _acquire(self) -> float:
        """Waits until the Lease is acquired. Returns the time at which the successful attempt began."""
        while True:
            began_s = self._clock()
            if await self._try(self._timing.renew_deadline_s):
                return began_s
            # client-go's JitterFactor: waiting candidates do not all try at the same time.
            await asyncio.sleep(self._timing.retry_s * self._rng.uniform(1.0, 2.2))

    async def _lead(self, lead: Callable[[], Coroutine[Any, Any, None]], began_s: float) -> None:
        _LOG.info("%s: this process leads, as %s", self._path, self._candidate.identity)
        self._on_leading(True)
        leading = asyncio.create_task(lead(), name="lead")
        renewing = asyncio.create_task(self._renew(began_s), name="renew lease")
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._on_leading(False)
            leading.cancel()
            renewing.cancel()
            await asyncio.gather(leading, renewing, return_exceptions=True)
        for task in (leading, renewing):
            if not task.cancelled():
                task.result()
        _LOG.warning("%s: this process no longer leads; the holder is %r", self._path, self._candidate.holder)

    async def _renew(self, renewed_s: float) -> None:
        """Renews the Lease. Returns when this process no longer holds it, or could not renew it in time."""
        while True:
            deadline_s = renewed_s + self._timing.renew_deadline_s
            await asyncio.sleep(min(self._timing.retry_s, deadline_s - self._clock()))
            began_s = self._clock()
            if began_s >= deadline_s:
                return
            if await self._try(deadline_s - began_s):
                renewed_s = began_s
            elif not self._candidate.leads:
                return

    async def _try(self, timeout_s: float) -> bool:
        """Acquires or renews the Lease if possible. Returns whether this process holds it."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._look_and_claim()
        except (KubernetesError, TimeoutError) as error:
            # A conflict means that another candidate was faster, which is normal.
            if not (isinstance(error, RefusedError) and error.status == _CONFLICT):
                self._warn_once(f"cannot acquire {self._path}: {str(error) or 'timeout'}")
            return False

    async def _look_and_claim(self) -> bool:
        self._candidate.saw(await self._look(), self._clock())
        if not self._candidate.may_claim(self._clock()):
            self._last_warning = ""
            return False
        lease = self._candidate.claim(datetime.now(UTC))
        if self._candidate.exists:
            written = await self._api.replace(self._path, lease)
        else:
            written = await self._api.create(self._collection, lease)
        self._candidate.saw(written, self._clock())
        self._last_warning = ""
        return True

    async def _look(self) -> Document | None:
        try:
            return await self._api.get(self._path)
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    async def _release(self) -> None:
        """Releases the Lease. Reads it first, because a renewal may have been cancelled halfway."""
        if not self._candidate.leads:
            return
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                self._candidate.saw(await self._look(), self._clock())
                if self._candidate.leads:
                    await self._api.replace(self._path, self._candidate.release(datetime.now(UTC)))
        except (KubernetesError, TimeoutError) as error:
            text = str(error) or "timeout"
            _LOG.info("cannot release %s, which will expire: %s", self._path, text)

    def _warn_once(self, text: str) -> None:
        """Logs a warning, unless it is the same as the last one."""
        if text != self._last_warning:
            self._last_warning = text
            _LOG.warning("%s", text)


def _new_identity() -> str:
    """Returns a unique identity for this process. In a pod it begins with the pod's name."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


def _micro_time(now: datetime) -> str:
    """Formats a time as Kubernetes' MicroTime."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
