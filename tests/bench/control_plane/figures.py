"""How a case of `make bench-control-plane` tells its figures, as soon as it has them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Case = Callable[[], None]


def figure(subject: str, value: float, unit: str) -> None:
    print(f"  {subject}: {value:.3g} {unit}", flush=True)


@contextmanager
def timed(subject: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """The seconds that the block takes. `time.process_time` as the clock gives CPU seconds."""
    start_s = clock()
    yield
    figure(subject, clock() - start_s, "s" if clock is time.perf_counter else "s of CPU")
