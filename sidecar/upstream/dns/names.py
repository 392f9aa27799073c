"""Shared look-ups: callers with the same question wait for the same answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sidecar.back_off import BackOff
from sidecar.errors import NameResolutionError
from sidecar.upstream.dns.question import Answer, Question, Resolve

FRESH_S = 5.0
FAILURE_BACK_OFF = BackOff(base_s=1.0, max_s=10.0)
MAX_NAMES = 1024
# Envoy's default for names in requests: ``DnsCacheConfig.dns_query_timeout``.
PATIENCE_S = 5.0


class SharedLookUps:
    """A `Resolve` over another one."""

    def __init__(self, resolve: Resolve, loop: asyncio.AbstractEventLoop) -> None:
        self._resolve = resolve
        self._loop = loop
        self._under_way: dict[Question, asyncio.Task[Answer]] = {}

    async def __call__(self, question: Question) -> Answer:
        return await asyncio.shield(self.begin(question))

    def begin(self, question: Question) -> asyncio.Task[Answer]:
        """The look-up continues if its callers are cancelled."""
        task = self._under_way.get(question)
        if task is None:
            task = self._loop.create_task(self._look_up(question), name=f"resolve {question.name}")
            self._under_way[question] = task
            task.add_done_callback(partial(self._ended, question))
        return task

    async def _look_up(self, question: Question) -> Answer:
        return await self._resolve(question)

    def _ended(self, question: Question, task: asyncio.Task[Answer]) -> None:
        del self._under_way[question]
        if not task.cancelled():
            task.exception()  # retrieved: perhaps no caller is left to do it

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _Known:
    until_s: float
    answer: Answer | None
    error: str = ""
    failures: int = 0


class NameCache:
    """A `Resolve` for the names in requests. It caches answers for `FRESH_S`, and failures and names that do
    not exist for a time by `FAILURE_BACK_OFF`. The number of names is limited: clients choose them."""

    def __init__(
        self,
        look_ups: SharedLookUps,
        now_s: Callable[[], float],
        *,
        capacity: int = MAX_NAMES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._look_ups = look_ups
        self._now_s = now_s
        self._capacity = capacity
        self._patience_s = patience_s
        self._known: dict[Question, _Known] = {}
        self._awaited: set[Question] = set()

    async def __call__(self, question: Question) -> Answer:
        """Raises `NameResolutionError`, after ``patience_s`` at the latest."""
        known = self._known.get(question)
        if known is None or self._now_s() >= known.until_s:
            known = await self._ask(question)
        if known.answer is None:
            raise NameResolutionError(known.error)
        return known.answer

    async def _ask(self, question: Question) -> _Known:
        if question not in self._awaited and len(self._awaited) >= self._capacity:
            raise NameResolutionError(f"{self._capacity} other names are being resolved")
        task = self._look_ups.begin(question)
        if question not in self._awaited:
            self._awaited.add(question)
            task.add_done_callback(partial(self._remember, question))
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.wait((task,))
        except TimeoutError:
            raise NameResolutionError(f"no answer within {self._patience_s:g} s") from None
        return _as_known(task)

    def _remember(self, question: Question, task: asyncio.Task[Answer]) -> None:
        self._awaited.discard(question)
        known = _as_known(task)
        before = self._known.pop(question, None)
        if known.answer is None or not known.answer.addresses:
            known.failures = before.failures + 1 if before is not None else 1
            lifetime_s = FAILURE_BACK_OFF.longest_s(known.failures)
        else:
            lifetime_s = FRESH_S
        known.until_s = self._now_s() + lifetime_s
        if len(self._known) >= self._capacity:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[question] = known


def _as_known(task: asyncio.Task[Answer]) -> _Known:
    if task.cancelled():
        return _Known(until_s=0.0, answer=None, error="the proxy is being stopped")
    error = task.exception()
    if error is not None:
        return _Known(until_s=0.0, answer=None, error=str(error))
    return _Known(until_s=0.0, answer=task.result())
