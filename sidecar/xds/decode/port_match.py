"""``ListenerFilterChainMatchPredicate``: the destination ports for which a listener filter is disabled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from sidecar.xds.decode.support import SupportTable, support
from sidecar.xds.decode.view import View

_PREDICATE: Final = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate"
_PORTS: Final = 65536

TABLE: Final[SupportTable] = {
    _PREDICATE: support("or_match and_match not_match any_match destination_port_range"),
    f"{_PREDICATE}.MatchSet": support("rules"),
    "envoy.type.v3.Int32Range": support("start end"),
}


def decode_port_match(view: View | None) -> tuple[range, ...]:
    """The ports that match, as ranges in order; none without a predicate."""
    if view is None:
        return ()
    # Between two neighbouring bounds, all ports match or none.
    bounds = sorted({0, _PORTS, *_bounds(view)})
    pieces = (range(start, end) for start, end in pairwise(bounds))
    return tuple(piece for piece in pieces if _matches(view, piece.start))


def _bounds(view: View) -> Iterator[int]:
    rule = view.which("rule")
    if rule == "destination_port_range":
        span = view.get(rule).message
        yield from (min(max(bound, 0), _PORTS) for bound in (span.start, span.end))
    elif rule == "not_match":
        yield from _bounds(view.get(rule))
    elif rule in ("or_match", "and_match"):
        for inner in view.get(rule).each("rules"):
            yield from _bounds(inner)


def _matches(view: View, port: int) -> bool:
    rule = view.which("rule")
    if rule == "destination_port_range":
        span = view.get(rule).message
        return bool(span.start <= port < span.end)
    if rule == "not_match":
        return not _matches(view.get(rule), port)
    if rule == "any_match":
        return True
    matches = [_matches(inner, port) for inner in view.get(rule).each("rules")]
    return any(matches) if rule == "or_match" else all(matches)
