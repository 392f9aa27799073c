"""The weights of weighted clusters."""

from __future__ import annotations

from sidecar.xds.decode.view import View

_MAX_UINT32 = 2**32 - 1


def check_weights(view: View, weights: list[int]) -> int:
    """The sum, which Envoy wants above 0 and within 32 bits."""
    total = sum(weights)
    if not 0 < total <= _MAX_UINT32:
        raise view.error(
            f"the weights sum to {total}, but must sum to 1 or more, up to {_MAX_UINT32}", "clusters"
        )
    return total
