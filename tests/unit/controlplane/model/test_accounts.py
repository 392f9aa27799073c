"""A WorkloadEntry that names a service account which is not there is in force, and says so."""

from __future__ import annotations

from controlplane.kinds.registry import KINDS
from controlplane.model.store import Store
from tests.support.documents import feed, workload

WARNING = "spec.serviceAccount: default has no service account vm"


def warnings(store: Store) -> tuple[str, ...]:
    store.build()
    (status,) = store.statuses()
    assert status.in_force
    return status.warnings


def store_with_entry(service_account: str = "vm") -> Store:
    store = Store(KINDS)
    feed(store, workload("vm", "10.0.0.1", {"app": "vm"}, serviceAccount=service_account))
    return store


def test_where_no_accounts_are_known_nothing_is_missed() -> None:
    assert warnings(store_with_entry()) == ()


def test_a_missing_account_is_warned_of_until_it_is_there() -> None:
    store = store_with_entry()
    store.observe_accounts(present=[("default", "default")])
    store.observe_accounts(present=[("other", "vm")])
    assert warnings(store) == (WARNING,)
    store.observe_accounts(present=[("default", "vm")])
    assert warnings(store) == ()
    store.observe_accounts(gone=[("default", "vm")])
    assert warnings(store) == (WARNING,)


def test_an_entry_without_an_account_is_not_warned() -> None:
    store = store_with_entry("")
    store.observe_accounts(present=[("default", "default")])
    assert warnings(store) == ()


def test_accounts_change_no_snapshot() -> None:
    store = store_with_entry()
    before, _ = store.build()
    store.observe_accounts(present=[("default", "default")])
    after, _ = store.build()
    assert after is before


def test_a_namespace_that_goes_with_all_its_accounts_is_looked_at_once() -> None:
    store = Store(KINDS)
    feed(store, *(workload(f"vm-{n}", "10.0.0.1", {}, serviceAccount=f"vm-{n}") for n in range(3)))
    accounts = [("default", f"vm-{n}") for n in range(2)]
    store.observe_accounts(present=[*accounts, ("other", "x")])
    assert [bool(each) for each in every_warning(store)] == [False, False, True]
    store.observe_accounts(gone=[*accounts, ("never", "seen")])
    assert all(every_warning(store))


def every_warning(store: Store) -> list[tuple[str, ...]]:
    store.build()
    return [status.warnings for status in store.statuses()]
