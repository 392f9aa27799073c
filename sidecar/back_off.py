"""The limit of exponential back-off with full jitter: the delay is uniform between 0 and it.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from __future__ import annotations

_MAX_DOUBLINGS = 32


def back_off_limit_s(failures: int, *, base_s: float, max_s: float) -> float:
    """Seconds after a number of failures in a row, at least one: ``base_s`` after the first, twice as long
    after each of the others, and at most ``max_s``."""
    return min(max_s, base_s * float(2 ** min(failures - 1, _MAX_DOUBLINGS)))
