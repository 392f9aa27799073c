"""Which resources are put in force when they contradict each other, or refer to what is not there.

The result depends on the resources and on what was in force before, never on the order of their arrival.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from controlplane.errors import ResourceError, UnsupportedKindError
from controlplane.model.record import Record, Version
from controlplane.model.status import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What only one resource may have, such as a host, in some namespaces. What is for all of them (``*``)
    leaves room for what is for one, where that comes first. ``path`` is the field that claims it, ``words``
    what it means to have it."""

    subject: str
    scopes: frozenset[str]
    path: str
    words: str

    def contradicts(self, other: Claim) -> bool:
        return not self.scopes.isdisjoint(other.scopes)


class Arbiter:
    """Settles the records of one kind of claim, oldest first.

    Of equally old ones, which is all of a folder's unless they say when they were created, those that are in
    force already go first: an operator's slip does not take over a host that works.
    """

    def __init__(
        self,
        claims: Callable[[Version], Iterable[Claim]] = lambda _: (),
        faults: Callable[[Version], Sequence[ResourceError]] = lambda _: (),
    ) -> None:
        self._claims = claims
        self._faults = faults
        self._taken: dict[str, list[tuple[Claim, Record]]] = defaultdict(list)

    def settle(self, records: Iterable[Record]) -> None:
        for record in sorted(records, key=_seniority):
            self._settle(record)

    def _settle(self, record: Record) -> None:
        reasons = [str(error) for error in record.reading.errors]
        fault = _own_fault(record.reading.errors)
        for version in record.candidates:
            claims = list(self._claims(version))
            conflicts = list(self._conflicts(claims))
            faults = [*conflicts, *self._faults(version)]
            if not faults:
                for claim in claims:
                    self._taken[claim.subject].append((claim, record))
                record.put_in_force(version, fault, reasons)
                return
            fault = fault or (Fault.CONFLICTED if conflicts else Fault.UNRESOLVED_REFS)
            words = "; ".join(map(str, faults))
            reasons.append(
                words if version is record.newest else f"the last good version holds no more: {words}"
            )
        record.put_in_force(None, fault, reasons)

    def _conflicts(self, claims: Iterable[Claim]) -> Iterable[ResourceError]:
        for claim in claims:
            for taken, holder in self._taken[claim.subject]:
                if claim.contradicts(taken):
                    owner = f"{holder.key} ({holder.reading.origin})"
                    yield ResourceError(claim.path, f"{claim.words} already by {owner}")


def _own_fault(errors: Sequence[ResourceError]) -> Fault | None:
    """What is wrong with a resource itself."""
    if any(isinstance(error, UnsupportedKindError) for error in errors):
        return Fault.UNSUPPORTED
    return Fault.INVALID if errors else None


def _seniority(record: Record) -> tuple[str, int, str, str, str]:
    key = record.key
    return record.creation, _novelty(record), key.namespace, key.name, key.kind


def _novelty(record: Record) -> int:
    """0: nothing new is asked for; 1: a new version of what is in force; 2: it is not in force."""
    if record.in_force is None:
        return 2
    return 0 if record.candidates[0] is record.in_force else 1
