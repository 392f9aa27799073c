"""What a check has found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import ParamSpec

from controlplane.errors import KubernetesError

P = ParamSpec("P")


class State(Enum):
    """PROBLEM: something does not work. WARNING: it works, or cannot be checked."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``subject`` is the object that it is about, such as `Deployment outrigger-system/a`, or empty."""

    check: str
    state: State
    subject: str = ""
    message: str


def ok(check: str, message: str, subject: str = "") -> Finding:
    return Finding(check=check, state=State.OK, subject=subject, message=message)


def warning(check: str, message: str, subject: str = "") -> Finding:
    return Finding(check=check, state=State.WARNING, subject=subject, message=message)


def problem(check: str, message: str, subject: str = "") -> Finding:
    return Finding(check=check, state=State.PROBLEM, subject=subject, message=message)


Findings = AsyncIterator[Finding]


def or_unchecked(name: str) -> Callable[[Callable[P, Findings]], Callable[P, Findings]]:
    """A check whose requests are refused, or not answered, is a warning; the other checks go on."""

    def decorate(check: Callable[P, Findings]) -> Callable[P, Findings]:
        @wraps(check)
        async def checked(*arguments: P.args, **options: P.kwargs) -> Findings:
            try:
                async for finding in check(*arguments, **options):
                    yield finding
            except KubernetesError as error:
                yield warning(name, f"cannot be checked: {error}")

        return checked

    return decorate
