"""Leader election by a Lease of ``coordination.k8s.io/v1``, as client-go's `leaderelection` has it.

Clocks of different machines are never compared: a candidate counts from when it saw the Lease change. The
leader stops by itself ``renew_deadline_s`` after it last began to renew in vain, which is before anybody else
takes the Lease.
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
    """What is asked of an API server: all raise `KubernetesError`."""

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
    """One contender for a Lease, and what it has seen of it. No I/O; ``now_s`` is a monotonic clock's."""

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
        """Who has the Lease, or had it last; empty: it was given back, or is not there."""
        return str(self._spec.get("holderIdentity") or "")

    @property
    def leads(self) -> bool:
        return self.holder == self.identity

    def saw(self, lease: Document | None, now_s: float) -> None:
        """The Lease as the API server has it; None: it has none."""
        before = self._spec if self.exists else None
        self._seen = lease
        if lease is None or self._spec != before:
            self._seen_at_s = now_s

    def may_claim(self, now_s: float) -> bool:
        """Whether it is ours already, or free, or its holder was not heard of for as long as it said."""
        lasts_s = float(self._spec.get("leaseDurationSeconds") or 0)
        return self.holder in ("", self.identity) or now_s - self._seen_at_s >= lasts_s

    def claim(self, now: datetime) -> Document:
        """The Lease as the holder writes it."""
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
        """The Lease for the next to take it at once."""
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
    """Stands for a Lease until cancelled. ``on_leading`` is told when we begin to lead, and when we end."""

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
        self._complaint = ""

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``lead`` for as long as we hold the Lease, again and again, and cancels it when we do not.

        Cancelled, it gives the Lease back. Raises what ``lead`` raises.
        """
        try:
            while True:
                began_s = await self._acquire()
                await self._lead(lead, began_s)
        finally:
            await self._release()

    async def _acquire(self) -> float:
        """Returns when the attempt that got the Lease began."""
        while True:
            began_s = self._clock()
            if await self._try(self._timing.renew_deadline_s):
                return began_s
            # client-go's JitterFactor: those who wait do not all come at once.
            await asyncio.sleep(self._timing.retry_s * self._rng.uniform(1.0, 2.2))

    async def _lead(self, lead: Callable[[], Coroutine[Any, Any, None]], began_s: float) -> None:
        _LOG.info("%s: we lead, as %s", self._path, self._candidate.identity)
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
        _LOG.warning("%s: we lead no more; its holder is %r", self._path, self._candidate.holder)

    async def _renew(self, renewed_s: float) -> None:
        """Returns when we do not hold the Lease any more, or cannot know that we do."""
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
        """Takes or renews the Lease, if that may be."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._look_and_claim()
        except (KubernetesError, TimeoutError) as error:
            # Somebody else was quicker: that is what it is for.
            if not (isinstance(error, RefusedError) and error.status == _CONFLICT):
                self._complain(f"{self._path} cannot be had: {str(error) or 'no answer in time'}")
            return False

    async def _look_and_claim(self) -> bool:
        self._candidate.saw(await self._look(), self._clock())
        if not self._candidate.may_claim(self._clock()):
            self._complaint = ""
            return False
        lease = self._candidate.claim(datetime.now(UTC))
        if self._candidate.exists:
            written = await self._api.replace(self._path, lease)
        else:
            written = await self._api.create(self._collection, lease)
        self._candidate.saw(written, self._clock())
        self._complaint = ""
        return True

    async def _look(self) -> Document | None:
        try:
            return await self._api.get(self._path)
        except RefusedError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    async def _release(self) -> None:
        """Looks first: a renewal may have been cancelled in the middle."""
        if not self._candidate.leads:
            return
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT_S):
                self._candidate.saw(await self._look(), self._clock())
                if self._candidate.leads:
                    await self._api.replace(self._path, self._candidate.release(datetime.now(UTC)))
        except (KubernetesError, TimeoutError) as error:
            words = str(error) or "no answer in time"
            _LOG.info("%s is not given back, and ends by itself: %s", self._path, words)

    def _complain(self, words: str) -> None:
        """Once, until the words are others."""
        if words != self._complaint:
            self._complaint = words
            _LOG.warning("%s", words)


def _new_identity() -> str:
    """Of this process; in a pod, it begins with the pod's name."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


def _micro_time(now: datetime) -> str:
    """Kubernetes' MicroTime."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
