"""A case of the benchmark: contenders that take turns, and the figures of each turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.site import Site

Figures = dict[str, float]
"""By the names of `tests.bench.figures.FIGURES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What a figure of ours may be: at most `limit` times Envoy's, or, if `absolute`, at most `limit`."""

    figure: str
    limit: float
    aim: float | None = None
    absolute: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`measure` takes the seconds of a round. `finish` measures once, after all rounds. `roots` are the
    processes that run meanwhile, if any."""

    name: str
    measure: Callable[[float], Figures]
    finish: Callable[[], Figures] = dict
    roots: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`start` starts the contenders, which run until the stack is closed, and warms them up. `unit` is what
    is counted, `compared` the figure whose ratio to Envoy's is shown. A round takes `longer` times the usual
    seconds."""

    name: str
    title: str
    unit: str = "request"
    bars: Sequence[Bar] = ()
    compared: str = "cpu_us"
    longer: float = 1.0
    start: Callable[[Site, ExitStack], Sequence[Contender]]
