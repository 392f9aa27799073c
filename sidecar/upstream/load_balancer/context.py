"""The properties of a request that decide which host it goes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecar.config.endpoint import Locality

if TYPE_CHECKING:
    from sidecar.upstream.host import Host


SubsetKey = frozenset[tuple[str, str]]
"""The labels that a route requires, as a key of the subsets."""

NO_SUBSET: SubsetKey = frozenset()
"""The route requires no labels."""


def subset_key(labels: Mapping[str, str]) -> SubsetKey:
    return frozenset(labels.items()) if labels else NO_SUBSET


class PickContext:
    """Used by all attempts of a request, or shared by all requests of a destination if they have the same
    values: only a context with `max_repicks` remembers hosts.

    `subset` are the labels that the route requires. A host in `tried` is replaced by another pick, up to
    `max_repicks` times (``RetryPolicy.host_selection_retry_max_attempts``). `hash` and `source_locality` are
    for balancers that use them (``RouteAction.hash_policy``, ``LocalityLbEndpoints``); none does yet.
    """

    __slots__ = ("hash", "max_repicks", "source_locality", "subset", "tried")

    def __init__(
        self,
        subset: SubsetKey = NO_SUBSET,
        *,
        max_repicks: int = 0,
        hash: int | None = None,
        source_locality: Locality | None = None,
    ) -> None:
        self.subset = subset
        self.max_repicks = max_repicks
        self.hash = hash
        self.source_locality = source_locality
        self.tried: list[Host] = []
