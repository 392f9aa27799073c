"""How an application behaves: well, or in one of the ways in which applications fail."""

from __future__ import annotations

from enum import Enum
from random import Random


class Mode(Enum):
    SOUND = "answers"
    SLOW = "answers after a moment"
    DRAIN = "answers, and closes each connection as its protocol says"
    HANG = "never answers"
    RESET = "resets the stream or the connection instead of an answer"
    ERROR = "answers 503 or UNAVAILABLE"
    CUT = "begins an answer, and resets"
    DOWN = "has crashed: resets its connections and does not listen"


STEADY = (Mode.SOUND, Mode.SLOW, Mode.DRAIN)


def next_mode(rng: Random, *, flaky: bool) -> Mode:
    return rng.choice(list(Mode) if flaky else STEADY)
