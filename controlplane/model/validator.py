"""Validates resources against each other: whether they conflict, and whether their references resolve."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from copy import copy
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from controlplane.model.conflict_resolver import ConflictResolver
from controlplane.model.in_force import Findings, InForce
from controlplane.model.kind import Account, ModelKind
from controlplane.model.record import Record
from controlplane.model.service import Service
from controlplane.model.snapshot import Config

RecordsOf = Callable[[str], Collection[Record]]


class Validator:
    """``records`` gives the records of a kind by its name. ``together`` names the kinds that are validated
    together, all of them again whenever a resource of one of them changes."""

    def __init__(
        self, kinds: Mapping[str, ModelKind[Any, Any]], records: RecordsOf, root_namespace: str
    ) -> None:
        self._kinds: Final = kinds
        self._records: Final = records
        self._root_namespace: Final = root_namespace
        self.together: Final = frozenset(name for name, kind in kinds.items() if kind.depends_on_others)

    def validate_together(self, now: str) -> None:
        """Decides which versions are in force. ``now`` is RFC 3339."""
        resolver = ConflictResolver(self._kinds, now)
        # In the order of the registry: Services come before ServiceEntries, so that a ServiceEntry cannot
        # take the host of a cluster's own Service.
        by_kind = {name: self._records(name) for name in self._kinds if name in self.together}
        for records in by_kind.values():
            resolver.settle(records)
        in_force = self._in_force(by_kind)
        for name, records in by_kind.items():
            for record in records:
                self._check_references(self._kinds[name], record, in_force)
        # Sorted, because every replica may write the status.
        for record, warning in sorted(resolver.limits(), key=itemgetter(1)):
            record.warnings += (warning,)

    def examine(self, candidate: Record, accounts: Set[Account], now: str) -> None:
        """Validates a record that would replace the one of its key. The others do not change."""
        if candidate.key.kind not in self.together:
            self.validate_alone([candidate], accounts, now)
            return
        by_kind = {
            name: [_as_read(record) for record in self._records(name) if record.key != candidate.key]
            for name in self._kinds
            if name in self.together
        }
        resolver = ConflictResolver(self._kinds, now)
        resolver.settle_among(candidate, chain.from_iterable(by_kind.values()))
        by_kind[candidate.key.kind].append(candidate)
        self._check_references(self._kinds[candidate.key.kind], candidate, self._in_force(by_kind))
        limits = sorted(warning for record, warning in resolver.limits() if record is candidate)
        candidate.warnings += tuple(limits)

    def validate_alone(self, records: Iterable[Record], accounts: Set[Account], now: str) -> None:
        """Validates the records of the other kinds. ``accounts`` are the service accounts that exist; empty
        if that is unknown, as in a folder."""
        records = tuple(records)
        ConflictResolver(self._kinds, now).settle(records)
        for record in records:
            account = self.account_of(record)
            record.warnings = ()
            if account is not None and accounts and account not in accounts:
                namespace, name = account
                record.warnings = (f"spec.serviceAccount: {namespace} has no service account {name}",)

    def account_of(self, record: Record) -> Account | None:
        """The service account that the version in force names."""
        kind = self._kinds.get(record.key.kind)
        if kind is None or kind.service_account is None or record.in_force is None:
            return None
        return kind.service_account(record.in_force.view)

    def _in_force(self, by_kind: Mapping[str, Collection[Record]]) -> InForce:
        return InForce(
            (service for records in by_kind.values() for service in services_in_force(records)),
            {name: configs_in_force(records) for name, records in by_kind.items()},
            self._root_namespace,
        )

    @staticmethod
    def _check_references(kind: ModelKind[Any, Any], record: Record, in_force: InForce) -> None:
        found = Findings()
        if kind.references is not None and record.in_force is not None:
            found = kind.references(record.in_force.view, in_force)
        record.warnings, record.unresolved = found.warnings, found.unresolved


def _as_read(record: Record) -> Record:
    """A record as the next validation probably leaves it, if it was read after the last one."""
    if record.fault is not None or record.newest is None or record.in_force is record.newest:
        return record
    found = copy(record)
    found.in_force = record.newest
    return found


def services_in_force(records: Iterable[Record]) -> Iterator[Service]:
    """The services that the records declare, if any."""
    for record in records:
        if record.in_force is not None and isinstance(record.in_force.view, tuple):
            yield from (declared.service for declared in record.in_force.view)


def configs_in_force(records: Iterable[Record]) -> tuple[Config[Any], ...]:
    """The policies among the records, the oldest first."""
    views = (record.in_force.view for record in records if record.in_force is not None)
    return tuple(sorted((view for view in views if isinstance(view, Config)), key=lambda view: view.order))
