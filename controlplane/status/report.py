"""Computes the ``.status`` of a resource, and the changes to write. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from controlplane.kinds.registry import KINDS
from controlplane.model.status import Fault, ResourceStatus, State
from controlplane.resources.status import ConditionStatus
from controlplane.status.affected_proxies import Reach

Document = dict[str, Any]

ACCEPTED: Final = "Accepted"
RESOLVED_REFS: Final = "ResolvedRefs"
PROGRAMMED: Final = "Programmed"

# A message may have 32768 characters, and the size of a resource is limited too. Proxies choose their
# messages and names.
_LONGEST_MESSAGE: Final = 16384
_LONGEST_REJECTION: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``reason`` is for programs, ``message`` for humans. The reasons are those of Kubernetes' Gateway API
    where it has them."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def changes(
    found: Document,
    status: ResourceStatus,
    reach: Reach,
    *,
    now: str,
    settling: bool = False,
    absent: int = 0,
) -> Document:
    """The fields of ``.status`` to merge into the status that was ``found``; empty if it is up to date.

    Conditions of other writers stay. ``settling`` means that proxies are still reconnecting: earlier counts
    for the same generation are kept. ``absent`` is the number of proxies that are expected to reconnect: a
    resource that may affect them is not programmed yet. ``now`` is RFC 3339.
    """
    generation = status.origin.generation
    if status.fault is Fault.UNSUPPORTED:  # it affects no proxy
        wanted: Document = {"conditions": _merged(_conditions(found), [accepted(status)], generation, now)}
        return {} if found.get("conditions") == wanted["conditions"] else wanted
    conditions = [accepted(status), *resolved_refs(status), programmed(status, reach, absent)]
    proxies = {"concerned": reach.concerned, "acknowledged": reach.acknowledged}
    if settling and found.get("observedGeneration") == generation and "proxies" in found:
        conditions, proxies = conditions[:-1], found["proxies"]
    wanted = {
        "observedGeneration": generation,
        "conditions": _merged(_conditions(found), conditions, generation, now),
        "proxies": proxies,
    }
    return {} if all(found.get(name) == value for name, value in wanted.items()) else wanted


def accepted(status: ResourceStatus) -> Condition:
    """Whether the newest generation is in force."""
    if status.state is State.APPLIED:
        message = "; ".join(status.warnings)
        return Condition(type=ACCEPTED, status=ConditionStatus.TRUE, reason=ACCEPTED, message=_cut(message))
    message = f"{_cut('; '.join(status.reasons))}; {status.lasting_consequence}"
    return Condition(type=ACCEPTED, status=ConditionStatus.FALSE, reason=_fault(status), message=message)


def resolved_refs(status: ResourceStatus) -> list[Condition]:
    """Whether all destinations of the version in force exist: one condition for kinds that have
    destinations."""
    if not KINDS[status.key.kind].has_destinations:
        return []
    value, reason, message = ConditionStatus.TRUE, RESOLVED_REFS, ""
    if not status.in_force:
        value, reason, message = ConditionStatus.UNKNOWN, _fault(status), status.consequence
    elif status.unresolved:
        # The reason of the Gateway API.
        value, reason = ConditionStatus.FALSE, "BackendNotFound"
        message = _cut("; ".join(status.unresolved))
    return [Condition(type=RESOLVED_REFS, status=value, reason=reason, message=message)]


def programmed(status: ResourceStatus, reach: Reach, absent: int = 0) -> Condition:
    """Whether proxies work with the newest generation. ``absent`` as for `changes`."""
    holds, reason, message = _programmed(status, reach, absent)
    value = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
    return Condition(type=PROGRAMMED, status=value, reason=reason, message=message)


def _programmed(status: ResourceStatus, reach: Reach, absent: int) -> tuple[bool, str, str]:
    if status.state is not State.APPLIED:
        return False, _fault(status), "; ".join((status.lasting_consequence, *_refusals(reach)))
    if absent and reach.acknowledged == reach.concerned:
        return False, "Pending", f"{absent} proxies have not reconnected to the control plane yet"
    if reach.concerned == 0:
        return True, PROGRAMMED, "no connected proxy is affected"
    if reach.acknowledged == reach.concerned:
        return True, PROGRAMMED, "all affected proxies have acknowledged"
    count = f"{reach.acknowledged} of {reach.concerned} proxies have acknowledged"
    if reach.refusals:
        return False, "Rejected", "; ".join((count, *_refusals(reach)))
    return False, "Pending", count


def _refusals(reach: Reach) -> Iterable[str]:
    """Describes the first rejection in full, and the number of other proxies."""
    if reach.refusals:
        proxy, rejection = reach.refusals[0]
        yield _cut(f"{proxy} rejected {rejection}", _LONGEST_REJECTION)
    others = {other for other, _ in reach.refusals} - {reach.refusals[0][0]} if reach.refusals else set()
    if others:
        yield f"{len(others)} other proxies rejected it, too"


def _fault(status: ResourceStatus) -> str:
    assert status.fault is not None  # a quarantined resource has one
    return status.fault.value


def _conditions(found: Document) -> list[Document]:
    """Ignores malformed conditions: a CRD that another program installed may allow any value."""
    conditions = found.get("conditions")
    if not isinstance(conditions, list):
        return []
    return [each for each in conditions if isinstance(each, dict) and isinstance(each.get("type"), str)]


def _merged(
    found: Iterable[Document], wanted: Iterable[Condition], generation: int | None, now: str
) -> list[Document]:
    """A merge patch replaces a list as a whole, so it has to contain the conditions of others too."""
    merged = {each["type"]: each for each in found}
    for condition in wanted:
        before = merged.get(condition.type, {})
        same = before.get("status") == condition.status.value
        merged[condition.type] = {
            "type": condition.type,
            "status": condition.status.value,
            "reason": condition.reason,
            "message": condition.message,
            # metav1.Condition: when the status changed, not the message.
            "lastTransitionTime": before.get("lastTransitionTime", now) if same else now,
            "observedGeneration": generation,
        }
    return list(merged.values())


def _cut(text: str, longest: int = _LONGEST_MESSAGE) -> str:
    return text if len(text) <= longest else f"{text[:longest]} …"
