"""Constant load on productpage, and its results."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from dataclasses import dataclass

import httpx

REQUEST_TIMEOUT_S = 10.0
JASON_EVERY = 4
"""Every fourth request comes from the user Jason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One client request. `start_s` is a time of the monotonic clock. `version` and `pod` identify the
    replica of reviews that answered; they are empty if none did."""

    start_s: float
    duration_s: float
    status: int
    user: str
    version: str = ""
    pod: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status == 200


class Results(list[Result]):
    """Results in the order of their responses."""

    def since(self, start_s: float) -> Results:
        """Returns the results of requests that were sent at `start_s` or later."""
        return Results(result for result in self if result.start_s >= start_s)

    def of(self, user: str) -> Results:
        return Results(result for result in self if result.user == user)

    def failed(self) -> Results:
        return Results(result for result in self if not result.ok)

    def versions(self) -> Counter[str]:
        return Counter(result.version for result in self if result.ok)

    def pods(self) -> Counter[str]:
        return Counter(result.pod for result in self if result.ok)

    def latency_ms(self, share: float) -> float:
        """Returns the latency that `share` (0 to 1) of the requests did not exceed; 0.0 without requests."""
        durations = sorted(result.duration_s for result in self)
        if not durations:
            return 0.0
        return durations[max(math.ceil(share * len(durations)) - 1, 0)] * 1000

    def rate_per_s(self) -> float:
        if len(self) < 2:
            return 0.0
        span_s = max(r.start_s for r in self) - min(r.start_s for r in self)
        return (len(self) - 1) / span_s if span_s else 0.0


class Load:
    """Sends `rate_per_s` requests per second, independent of the response times (an open loop), unless
    `most_in_flight` wait for their responses."""

    def __init__(self, url: str, *, rate_per_s: float, most_in_flight: float = math.inf) -> None:
        self.results = Results()
        self._url = url
        self._interval_s = 1 / rate_per_s
        self._most_in_flight = most_in_flight
        self._pending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Runs until cancelled. Then waits for the requests in flight and counts them."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        async with httpx.AsyncClient(limits=limits, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            due_s = time.monotonic()
            try:
                for number in itertools.count():
                    user = "jason" if number % JASON_EVERY == 0 else ""
                    task = asyncio.create_task(self._request(client, user), name=f"load-{number}")
                    self._pending.add(task)
                    task.add_done_callback(self._pending.discard)
                    due_s += self._interval_s
                    await asyncio.sleep(max(due_s - time.monotonic(), 0))
                    if len(self._pending) >= self._most_in_flight:
                        await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
                        due_s = time.monotonic()
            finally:
                await asyncio.gather(*self._pending)

    async def settled(self) -> None:
        """Waits for the requests that are in flight now."""
        await asyncio.gather(*self._pending)

    async def _request(self, client: httpx.AsyncClient, user: str) -> None:
        start_s = time.monotonic()
        status, version, pod, error = 0, "", "", ""
        try:
            response = await client.get(self._url, headers={"end-user": user} if user else {})
            status = response.status_code
            if status == 200:
                reviews = response.json()["reviews"]
                version, pod = reviews["version"], reviews["pod"]
            else:
                error = response.text[:300]
        except (httpx.HTTPError, ValueError, KeyError) as problem:
            error = f"{type(problem).__name__}: {problem}"
        duration_s = time.monotonic() - start_s
        self.results.append(
            Result(
                start_s=start_s,
                duration_s=duration_s,
                status=status,
                user=user,
                version=version,
                pod=pod,
                error=error,
            )
        )
