"""Cases that measure new processes in each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests.bench.case import Contender, Figures
from tests.bench.proxies.launch import Kind, kinds
from tests.bench.site import Site


def each_round(measure: Callable[[Site, Kind], Figures]) -> Callable[[Site, ExitStack], Sequence[Contender]]:
    """For `Case.start`: new processes are measured in each round, whose seconds are ignored."""

    def start(site: Site, stack: ExitStack) -> Sequence[Contender]:
        return [
            Contender(name=kind.name, measure=lambda _, kind=kind: measure(site, kind))  # type: ignore[misc]
            for kind in kinds(site)
        ]

    return start
