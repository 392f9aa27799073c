"""The defence against rapid reset (CVE-2023-44487): clients that open streams and reset them at once. Pure.

Source: Envoy's runtime keys ``overload.premature_reset_total_stream_count`` and
``overload.premature_reset_min_stream_lifetime_seconds``, with their defaults.
"""

from __future__ import annotations

from typing import Final

_STREAMS: Final = 500
_MIN_LIFETIME_S: Final = 1.0


class PrematureResets:
    """The streams of one connection that have ended. A reset is premature if the stream was younger than a
    second, and had no response."""

    __slots__ = ("_ended", "_premature")

    def __init__(self) -> None:
        self._ended = 0
        self._premature = 0

    def ended(self) -> None:
        """A stream has ended, in any way."""
        self._ended += 1

    def reset(self, lifetime_s: float, *, answered: bool) -> bool:
        """The client has reset a stream, which `ended` counts next. Returns whether to close the connection:
        half of its streams, and of the first 500, were reset prematurely."""
        if not answered and lifetime_s <= _MIN_LIFETIME_S:
            self._premature += 1
        return self._premature * 2 >= max(self._ended + 1, _STREAMS)
