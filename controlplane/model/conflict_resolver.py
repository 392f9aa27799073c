"""Which resources are put in force when they contradict each other.

The result depends on the resources, and in a folder on what was in force before; never on the order of their
arrival.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.errors import ResourceError, UnsupportedKindError
from controlplane.model.record import Record, Version
from controlplane.model.status import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What only one resource may have, such as a host, in some namespaces. What is for all of them (``*``)
    comes after what is for one; and in the namespace ``owner``, which claims it, comes first what it has for
    itself. Else the least ``order`` counts. One owner may split a subject by ``ports``. ``path`` is the field
    that claims it, ``words`` what it means to have it."""

    subject: str
    scopes: frozenset[str]
    path: str
    words: str
    owner: str = ""
    ports: frozenset[int] = frozenset()
    order: tuple[Any, ...] = ()

    def contradicts(self, other: Claim) -> bool:
        """Whether both are seen by the same namespaces, and neither comes first in any. Symmetric, so that
        what is in force together stays so in whatever order it is settled again."""
        alike = self.scopes == other.scopes and not (
            self.owner != other.owner and self.scopes & {self.owner, other.owner}
        )
        return bool(self.scopes) and alike and self.overlaps(other)

    def overlaps(self, other: Claim) -> bool:
        """Whether both mean the same of the subject."""
        by_port = self.owner == other.owner and self.ports and other.ports
        return not (by_port and self.ports.isdisjoint(other.ports))


class ConflictResolver:
    """Settles the records of one kind of claim, oldest first; ``now`` is RFC 3339.

    A cluster says when each was created, and of equally old ones the first by namespace and name wins: on all
    replicas the same. A folder's resources have no age unless they say so: there those that are in force
    already go first, so that an operator's slip does not take over a host that works.
    """

    def __init__(
        self,
        now: str,
        claims: Callable[[Version], Iterable[Claim]] = lambda _: (),
    ) -> None:
        self._now = now
        self._claims = claims
        self._taken: dict[str, list[tuple[Claim, Record]]] = defaultdict(list)

    def settle(self, records: Iterable[Record]) -> None:
        chosen = [(record, self._choose(record)) for record in sorted(records, key=_seniority)]
        for record, version in chosen:
            self._tell(record, version)

    def limits(self) -> Iterator[tuple[Record, str]]:
        """Of what is in force: a record that does not count in one of its namespaces, and words for that."""
        for taken in self._taken.values():
            seen: dict[str, list[tuple[Claim, Record]]] = defaultdict(list)
            for claim, record in taken:
                for namespace in claim.scopes - {"*"}:
                    seen[namespace].append((claim, record))
            for namespace, claims in seen.items():
                yield from _limits_in(namespace, claims)

    def _choose(self, record: Record) -> Version | None:
        """The best version that contradicts nothing that was chosen before."""
        for version in record.candidates:
            claims = list(self._claims(version))
            if not any(self._conflicts(claims, record)):
                for claim in claims:
                    self._taken[claim.subject].append((claim, record))
                return version
        return None

    def _tell(self, record: Record, chosen: Version | None) -> None:
        """What is in the way of the better versions, now that all are chosen."""
        reasons = [str(error) for error in record.reading.errors]
        fault = _own_fault(record.reading.errors)
        for version in record.candidates:
            if version is chosen:
                break
            fault = fault or Fault.CONFLICTED
            words = "; ".join(sorted(map(str, self._conflicts(self._claims(version), record))))
            reasons.append(
                words if version is record.newest else f"the last good version holds no more: {words}"
            )
        if chosen is None and record.kept.unusable:
            reasons.append(f"the last good version that was kept cannot be used: {record.kept.unusable}")
        record.put_in_force(chosen, self._now, fault, reasons)

    def _conflicts(self, claims: Iterable[Claim], record: Record) -> Iterator[ResourceError]:
        for claim in claims:
            for taken, holder in self._taken[claim.subject]:
                if holder is not record and claim.contradicts(taken):
                    yield ResourceError(claim.path, f"{claim.words} already by {_name(holder)}")


def _limits_in(namespace: str, claims: list[tuple[Claim, Record]]) -> Iterator[tuple[Record, str]]:
    """Its owner's claims come first there."""
    ordered = sorted(claims, key=lambda each: (each[0].owner != namespace, each[0].order))
    for index, (claim, record) in enumerate(ordered):
        first = next((holder for other, holder in ordered[:index] if claim.overlaps(other)), None)
        if first is not None:
            yield record, f"{claim.path}: {claim.words} in the namespace {namespace} by {_name(first)}"


def _name(record: Record) -> str:
    return f"{record.key} ({record.reading.origin})"


def _own_fault(errors: Sequence[ResourceError]) -> Fault | None:
    """What is wrong with a resource itself."""
    if any(isinstance(error, UnsupportedKindError) for error in errors):
        return Fault.UNSUPPORTED
    return Fault.INVALID if errors else None


def _seniority(record: Record) -> tuple[str, int, str, str, str]:
    key, creation = record.key, record.creation
    return creation, 0 if creation else _novelty(record), key.namespace, key.name, key.kind


def _novelty(record: Record) -> int:
    """0: nothing new is asked for; 1: a new version of what is in force; 2: it is not in force.

    A process that has just started takes what it finds to be in force, but for what is kept of it."""
    serving = record.in_force or record.kept.version
    best = next(record.candidates, None)
    if serving is None or best is None:
        return 2 if record.late else 0
    return 0 if best is serving else 1
