"""The state of a container."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Self

# Kubernetes' kubelet: a container that has run for this time does not count as crashing repeatedly.
BACK_OFF_FORGOTTEN_AFTER_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """How long a container that ended waits before it runs again: not at all the first time, then
    `initial_s`, and twice as long each time up to `limit_s`."""

    initial_s: float = 10.0
    limit_s: float = 300.0

    def after(self, delay_s: float) -> float:
        return min(max(2 * delay_s, self.initial_s), self.limit_s)


class Ending(Enum):
    """The progress of ending a running container."""

    NOT_BEGUN = "not begun"
    PRE_STOP = "its preStop hook runs"
    PRE_STOPPED = "its preStop hook has run"
    SIGNALLED = "SIGTERM is sent, SIGKILL will follow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """It does not run: `retry_at_s` is when to try (again) to start it."""

    reason: str
    message: str = ""
    retry_at_s: float = 0.0


CREATING = Waiting(reason="ContainerCreating")


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting:
    """Its process is being made. Until it exists, the status shows `before`."""

    before: Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """`post_started`: its postStart hook has run, or it has none. `started`: its startup probe has succeeded
    after that. `end_by_s`: it alone is to end, by then."""

    id: str
    since_s: float
    post_started: bool = False
    started: bool = False
    ready: bool = False
    ending: Ending = Ending.NOT_BEGUN
    end_by_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    id: str
    exit_code: int
    reason: str
    started_at_s: float
    finished_at_s: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """Times are seconds since the epoch. `last` is the run before this one."""

    now: Waiting | Starting | Running | Terminated = CREATING
    last: Terminated | None = None
    restarts: int = 0
    back_off_s: float = 0.0

    @property
    def runs(self) -> bool:
        return isinstance(self.now, Starting | Running)

    @property
    def has_run(self) -> bool:
        return isinstance(self.now, Running | Terminated) or self.last is not None

    @property
    def exit_code(self) -> int | None:
        return self.now.exit_code if isinstance(self.now, Terminated) else None

    @property
    def may_start_at_s(self) -> float | None:
        """None while it runs."""
        if isinstance(self.now, Waiting):
            return self.now.retry_at_s
        if isinstance(self.now, Terminated):
            return self.now.finished_at_s + self.back_off_s
        return None

    def starting(self, back_off: BackOff) -> Self:
        """A run begins: the first, another attempt at one that could not begin, or one after another."""
        if isinstance(self.now, Waiting):
            return replace(self, now=Starting(before=self.now))
        assert isinstance(self.now, Terminated)
        ran_s = self.now.finished_at_s - self.now.started_at_s
        delay_s = 0.0 if ran_s >= BACK_OFF_FORGOTTEN_AFTER_S else self.back_off_s
        return replace(
            self,
            now=Starting(before=CREATING),
            last=self.now,
            restarts=self.restarts + 1,
            back_off_s=back_off.after(delay_s),
        )

    def with_running(self, **changes: Any) -> Self:
        """Changes fields of the running container; no change where it has ended meanwhile."""
        if not isinstance(self.now, Running):
            return self
        return replace(self, now=replace(self.now, **changes))


class Board:
    """The states of a pod's containers; calls `changed` after each change."""

    def __init__(self, states: dict[str, ContainerState], changed: Callable[[], None]) -> None:
        self.states = states
        self._changed = changed

    def put(self, name: str, state: ContainerState) -> None:
        if state != self.states[name]:
            self.states[name] = state
            self._changed()

    def now(self, name: str, now: Waiting | Running | Terminated) -> None:
        self.put(name, replace(self.states[name], now=now))

    def running(self, name: str, **changes: Any) -> None:
        """Changes fields of a running container; no change where it has ended meanwhile."""
        self.put(name, self.states[name].with_running(**changes))
