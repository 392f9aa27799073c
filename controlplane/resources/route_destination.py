"""The parts that HTTP, TLS and TCP routes of a VirtualService share: gateways, and weighted destinations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field

from controlplane.resources.base import (
    LABEL,
    Host,
    Message,
    NonEmptyStr,
    NonNegativeInt,
    PortSelector,
    Str,
    invalid,
)

# Means every sidecar; any other name is a Gateway.
MESH: Final = "mesh"
_GATEWAY = re.compile(rf"(?:{LABEL}/)?{LABEL}(?:\.{LABEL})*")


def _check_gateway(gateway: str) -> str:
    if not _GATEWAY.fullmatch(gateway):
        raise invalid(f"{gateway!r:.80} should be `mesh`, NAME or NAMESPACE/NAME")
    return gateway


Gateway = Annotated[
    Str,
    AfterValidator(_check_gateway),
    Field(description="`mesh` (every sidecar), or a Gateway, NAMESPACE/NAME, which is not supported yet."),
]


def is_for_mesh(gateways: Sequence[str]) -> bool:
    """Whether a VirtualService, or a match of its routes, applies to sidecars. Without gateways, Istio's
    default is ``mesh``."""
    return not gateways or MESH in gateways


class Destination(Message):
    """``Destination``: a service or one of its subsets. Without a port, the request's port is used."""

    host: Host
    subset: NonEmptyStr | None = None
    port: PortSelector | None = None


class WeightedDestination(Message):
    """``RouteDestination``: the weight is a share of the sum; the only destination of a route gets
    everything."""

    destination: Destination
    weight: NonNegativeInt = 0


WeightedT = TypeVar("WeightedT", bound=WeightedDestination)


def _check_weights(route: tuple[WeightedT, ...]) -> tuple[WeightedT, ...]:
    total = sum(destination.weight for destination in route)
    if len(route) > 1 and total == 0:
        raise invalid("the sum of the weights is 0")
    if total > 2**32 - 1:
        raise invalid(f"the sum of the weights is {total}; the limit is 4294967295")
    return route


Weighted = AfterValidator(_check_weights)
