"""The service accounts that WorkloadEntries name, and whether they are there."""

from __future__ import annotations

from collections.abc import Iterable, Set

from controlplane.model.record import Record
from controlplane.model.service import Workload

Account = tuple[str, str]  # namespace, name


def account_of(record: Record) -> Account | None:
    """The one that a WorkloadEntry in force names."""
    workload = record.in_force.view if record.in_force else None
    if not isinstance(workload, Workload) or not workload.service_account:
        return None
    return workload.namespace, workload.service_account


def warn_of_accounts(records: Iterable[Record], accounts: Set[Account]) -> None:
    """``accounts`` are all that there are; none: nobody can tell, as in a folder."""
    for record in records:
        account = account_of(record)
        if account is None or not accounts or account in accounts:
            record.warnings = ()
        else:
            namespace, name = account
            record.warnings = (f"spec.serviceAccount: {namespace} has no service account {name}",)
