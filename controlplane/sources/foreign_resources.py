"""Counts the resources of unsupported kinds, and logs each kind once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from controlplane.resources.foreign import ForeignKind

_LOG = logging.getLogger(__name__)

ResourceName = tuple[str, str]  # namespace (empty for a cluster-scoped resource) and name

# Limits for one kind, which can have any number of resources.
_MOST_LISTED: Final = 100
_MOST_LOGGED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedKind:
    """An unsupported kind. ``count`` is the number of its resources, and ``resources`` are the names of the
    first ones (``<namespace>/<name>``)."""

    group: str
    kind: str
    consequence: str
    count: int
    resources: tuple[str, ...]


class ForeignResources:
    """The existing resources by kind. A kind is listed while its CRD exists, even without resources."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._names: Final[dict[ForeignKind, set[ResourceName]]] = {}
        self._gauge: Final = Gauge(
            "outrigger_unsupported_resources",
            "Resources of unsupported Istio kinds, which have no effect.",
            ["group", "kind"],
            registry=registry,
        )

    def update(
        self,
        kind: ForeignKind,
        *,
        present: Collection[ResourceName] = (),
        gone: Collection[ResourceName] = (),
    ) -> None:
        names = self._names.setdefault(kind, set())
        was_empty = not names
        names.difference_update(gone)
        names.update(present)
        self._gauge.labels(group=kind.group, kind=kind.name).set(len(names))
        if was_empty and names:
            _LOG.warning("%s is not supported, %s: %s", kind, kind.consequence, _some(names))

    def forget(self, kind: ForeignKind) -> None:
        """Removes a kind whose CRD was deleted."""
        if self._names.pop(kind, None) is not None:
            self._gauge.remove(kind.group, kind.name)

    def names(self, kind: ForeignKind) -> frozenset[ResourceName]:
        return frozenset(self._names.get(kind, ()))

    def listing(self) -> Sequence[UnsupportedKind]:
        return [
            UnsupportedKind(
                group=kind.group,
                kind=kind.name,
                consequence=kind.consequence,
                count=len(names),
                resources=tuple(_joined(names)[:_MOST_LISTED]),
            )
            for kind, names in sorted(self._names.items(), key=lambda each: (each[0].group, each[0].name))
        ]


def _joined(names: Collection[ResourceName]) -> list[str]:
    return [f"{namespace}/{name}" if namespace else name for namespace, name in sorted(names)]


def _some(names: Collection[ResourceName]) -> str:
    more = f" and {len(names) - _MOST_LOGGED} more" if len(names) > _MOST_LOGGED else ""
    return ", ".join(_joined(names)[:_MOST_LOGGED]) + more
