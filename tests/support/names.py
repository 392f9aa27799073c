"""A resolver without a network, and a clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
from typing import Any

from sidecar.errors import NameResolutionError
from sidecar.upstream.dns.question import Answer, Question


class Names:
    """A `Resolve`. An answer of None is pending: callers wait for the next `say` or `fail`."""

    def __init__(self, **answers: list[str] | Exception | None) -> None:
        self.answers: dict[str, Answer | Exception | None] = {
            name: Answer(tuple(answer)) if isinstance(answer, list) else answer
            for name, answer in answers.items()
        }
        self.questions: list[Question] = []
        self.times_s: list[float] = []
        self.now_s = asyncio.get_running_loop().time
        self._changed = asyncio.Event()

    @property
    def asked(self) -> list[str]:
        return [question.name for question in self.questions]

    def say(self, name: str, *addresses: str) -> None:
        self._set(name, Answer(addresses))

    def fail(self, name: str, reason: str = "no server answered") -> None:
        self._set(name, NameResolutionError(reason))

    def keep_silent(self, name: str) -> None:
        self._set(name, None)

    def _set(self, name: str, answer: Answer | Exception | None) -> None:
        self.answers[name] = answer
        self._changed.set()
        self._changed = asyncio.Event()

    async def __call__(self, question: Question) -> Answer:
        self.questions.append(question)
        self.times_s.append(self.now_s())
        while (answer := self.answers[question.name]) is None:
            await self._changed.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class VirtualTime:
    """Replaces the event loop as a clock and as a maker of tasks."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sleeping: list[tuple[float, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self._now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio.get_running_loop(), name)

    async def sleep(self, delay_s: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._now_s + delay_s, future))
        await future

    async def pass_s(self, seconds: float) -> None:
        """Wakes the sleeping tasks that are due until then, in order."""
        end_s = self._now_s + seconds
        await turns()
        while due := [at_s for at_s, _ in self._sleeping if at_s <= end_s + 1e-9]:
            self._now_s = min(due)
            for entry in [entry for entry in self._sleeping if entry[0] <= self._now_s]:
                self._sleeping.remove(entry)
                if not entry[1].done():
                    entry[1].set_result(None)
            await turns()
        self._now_s = end_s


async def turns(count: int = 10) -> None:
    """Lets tasks that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)
