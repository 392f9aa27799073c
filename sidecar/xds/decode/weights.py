"""The weights of weighted clusters."""

from __future__ import annotations

from sidecar.xds.decode.view import View

_MAX_UINT32 = 2**32 - 1


def check_weights(view: View, weights: list[int]) -> int:
    """Returns the sum. Raises `ConfigError` if it is 0 or does not fit 32 bits, as Envoy does."""
    total = sum(weights)
    if not 0 < total <= _MAX_UINT32:
        raise view.error(
            f"the sum of the weights is {total}, but must be from 1 to {_MAX_UINT32}", "clusters"
        )
    return total
