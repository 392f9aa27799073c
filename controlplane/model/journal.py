"""Logs changes of statuses: resources that are quarantined, applied or removed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import ResourceStatus, State

_LOG = logging.getLogger(__name__)

# More lines would not help: the debug API has all of them.
_MOST_LINES = 20

Statuses = tuple[ResourceStatus, ...]


def log_changes(before: Mapping[ResourceKey, Statuses], after: Mapping[ResourceKey, Statuses]) -> None:
    """``after`` has the resources that were validated again; a resource without a status was removed."""
    applied: list[ResourceStatus] = []
    quarantined: list[ResourceStatus] = []
    removed: list[ResourceKey] = []
    for key, statuses in after.items():
        known = {_substance(status) for status in before.get(key, ())}
        if known and not statuses:
            removed.append(key)
        for status in statuses:
            if _substance(status) not in known:
                (applied if status.state is State.APPLIED else quarantined).append(status)
    _log_quarantined(quarantined)
    _log_applied(applied)
    _log_removed(removed)


def _substance(status: ResourceStatus) -> object:
    """The parts of a status whose change is worth a log line. A change of its document's line number is
    not."""
    return (
        status.state,
        status.origin.file,
        status.generation,
        status.in_force,
        status.reasons,
        status.warnings,
        status.unresolved,
    )


def _log_quarantined(statuses: list[ResourceStatus]) -> None:
    for status in statuses[:_MOST_LINES]:
        _LOG.warning("%s", status)
    if len(statuses) > _MOST_LINES:
        _LOG.warning("%d more resources are quarantined", len(statuses) - _MOST_LINES)


def _log_applied(statuses: list[ResourceStatus]) -> None:
    if len(statuses) > _MOST_LINES:
        kinds = Counter(status.key.kind for status in statuses)
        _LOG.info("applied %s", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    else:
        for status in statuses:
            _LOG.info("%s", status)
    for status in [status for status in statuses if status.warnings or status.unresolved][:_MOST_LINES]:
        _LOG.warning("%s: %s", status.key, "; ".join((*status.unresolved, *status.warnings)))


def _log_removed(keys: list[ResourceKey]) -> None:
    for key in keys[:_MOST_LINES]:
        _LOG.info("%s removed", key)
    if len(keys) > _MOST_LINES:
        _LOG.info("%d more resources removed", len(keys) - _MOST_LINES)
