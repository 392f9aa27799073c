"""Decides which resources are in force when they contradict each other.

The result depends on the resources and, in a folder, on the resources that were in force before. It does not
depend on the order in which they arrive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from controlplane.errors import ResourceError, UnsupportedKindError
from controlplane.model.claim import Claim
from controlplane.model.kind import ModelKind
from controlplane.model.record import Record, Version
from controlplane.model.status import Fault


class ConflictResolver:
    """Settles the records kind by kind, and in each kind the oldest first; ``now`` is RFC 3339.

    A cluster records the time at which each resource was created; of resources with the same time, the first
    by namespace and name wins, on every replica. A folder's resources have no such time unless they state it.
    There, the resources that are already in force come first, so that a new resource cannot take over a
    working host by mistake.
    """

    def __init__(self, kinds: Mapping[str, ModelKind[Any, Any]], now: str) -> None:
        self._kinds = kinds
        self._now = now
        self._taken: dict[tuple[str, ...], list[tuple[Claim, Record]]] = defaultdict(list)

    def settle(self, records: Iterable[Record]) -> None:
        """Puts a version of each record in force, or none. Records that were settled before come first."""
        chosen = [(record, self._choose(record)) for record in sorted(records, key=_seniority)]
        for record, version in chosen:
            self._explain(record, version)

    def settle_among(self, candidate: Record, others: Iterable[Record]) -> None:
        """Puts a version of ``candidate`` in force, or none. The versions of the others that are in force
        stay so, except those that a senior candidate contradicts."""
        versions = list(candidate.candidates)
        subjects = {claim.subject for each in versions for claim in self._claims(candidate, each)}
        rivals = [
            (claim, record)
            for record in others
            if record.in_force is not None
            for claim in self._claims(record, record.in_force)
            if claim.subject in subjects
        ]
        rank = self._rank(candidate)
        for claim, record in rivals:
            if self._rank(record) < rank:
                self._taken[claim.subject].append((claim, record))
        self._explain(candidate, self._choose(candidate))
        for claim, record in rivals:
            own = [each for each, holder in self._taken[claim.subject] if holder is candidate]
            if rank < self._rank(record) and not any(map(claim.contradicts, own)):
                self._taken[claim.subject].append((claim, record))

    def limits(self) -> Iterator[tuple[Record, str]]:
        """The records in force that do not count in one of their namespaces, and the reasons."""
        for taken in self._taken.values():
            seen: dict[str, list[tuple[Claim, Record]]] = defaultdict(list)
            for claim, record in taken:
                for namespace in claim.scopes - {"*"}:
                    seen[namespace].append((claim, record))
            for namespace, claims in seen.items():
                yield from _limits_in(namespace, claims)

    def _rank(self, record: Record) -> tuple[int, tuple[str, int, str, str, str]]:
        """The order in which `settle` is called for the kinds, and puts their records in force."""
        return list(self._kinds).index(record.key.kind), _seniority(record)

    def _claims(self, record: Record, version: Version) -> Iterable[Claim]:
        kind = self._kinds.get(record.key.kind)
        return kind.claims(version.view) if kind is not None and kind.claims is not None else ()

    def _choose(self, record: Record) -> Version | None:
        """Returns the best version that contradicts no version that was chosen before."""
        for version in record.candidates:
            claims = list(self._claims(record, version))
            if not any(self._conflicts(claims, record)):
                for claim in claims:
                    self._taken[claim.subject].append((claim, record))
                return version
        return None

    def _explain(self, record: Record, chosen: Version | None) -> None:
        """Records why the better versions are not in force, now that all are chosen."""
        reasons = [str(error) for error in record.reading.errors]
        fault = _own_fault(record.reading.errors)
        for version in record.candidates:
            if version is chosen:
                break
            fault = fault or Fault.CONFLICTED
            reason = "; ".join(sorted(map(str, self._conflicts(self._claims(record, version), record))))
            reasons.append(
                reason
                if version is record.newest
                else f"the last good version cannot stay in force: {reason}"
            )
        if chosen is None and record.kept.unusable:
            reasons.append(f"the stored last good version cannot be used: {record.kept.unusable}")
        record.put_in_force(chosen, self._now, fault, reasons)

    def _conflicts(self, claims: Iterable[Claim], record: Record) -> Iterator[ResourceError]:
        for claim in claims:
            for taken, holder in self._taken[claim.subject]:
                if holder is not record and claim.contradicts(taken):
                    reason = f"{claim.description} is already {claim.verb} by {_name(holder)}"
                    yield ResourceError(claim.path, reason)


def _limits_in(namespace: str, claims: list[tuple[Claim, Record]]) -> Iterator[tuple[Record, str]]:
    """Finds the records whose claims do not count in a namespace. Claims of the namespace itself come
    first."""
    ordered = sorted(claims, key=lambda each: (each[0].owner != namespace, each[0].order))
    for index, (claim, record) in enumerate(ordered):
        first = next((holder for other, holder in ordered[:index] if claim.overlaps(other)), None)
        if first is not None:
            reason = f"{claim.description} is {claim.verb} in the namespace {namespace} by {_name(first)}"
            yield record, f"{claim.path}: {reason}"


def _name(record: Record) -> str:
    return f"{record.key} ({record.reading.origin})"


def _own_fault(errors: Sequence[ResourceError]) -> Fault | None:
    """Returns the fault of a resource that does not depend on other resources."""
    if any(isinstance(error, UnsupportedKindError) for error in errors):
        return Fault.UNSUPPORTED
    return Fault.INVALID if errors else None


def _seniority(record: Record) -> tuple[str, int, str, str, str]:
    key, creation = record.key, record.creation
    return creation, 0 if creation else _novelty(record), key.namespace, key.name, key.kind


def _novelty(record: Record) -> int:
    """0: nothing is new; 1: a new version of a resource in force; 2: the resource is not in force.

    A process that has just started assumes that the resources that it finds are in force, unless a stored
    version contradicts this."""
    serving = record.in_force or record.kept.version
    best = next(record.candidates, None)
    if serving is None or best is None:
        return 2 if record.late else 0
    return 0 if best is serving else 1
