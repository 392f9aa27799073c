"""A WorkloadEntry that names a service account which is not there is in force, and says so."""

from __future__ import annotations

from controlplane.model.store import Store
from tests.support.documents import feed, workload

WARNING = "spec.serviceAccount: default has no service account vm"


def warnings(store: Store) -> tuple[str, ...]:
    store.build()
    (status,) = store.statuses()
    assert status.in_force
    return status.warnings


def store_with_entry(service_account: str = "vm") -> Store:
    store = Store()
    feed(store, workload("vm", "10.0.0.1", {"app": "vm"}, serviceAccount=service_account))
    return store


def test_where_no_accounts_are_known_nothing_is_missed() -> None:
    assert warnings(store_with_entry()) == ()


def test_a_missing_account_is_warned_of_until_it_is_there() -> None:
    store = store_with_entry()
    store.observe_account(("default", "default"), exists=True)
    store.observe_account(("other", "vm"), exists=True)
    assert warnings(store) == (WARNING,)
    store.observe_account(("default", "vm"), exists=True)
    assert warnings(store) == ()
    store.observe_account(("default", "vm"), exists=False)
    assert warnings(store) == (WARNING,)


def test_an_entry_without_an_account_is_not_warned() -> None:
    store = store_with_entry("")
    store.observe_account(("default", "default"), exists=True)
    assert warnings(store) == ()


def test_accounts_change_no_snapshot() -> None:
    store = store_with_entry()
    before, _ = store.build()
    store.observe_account(("default", "default"), exists=True)
    after, _ = store.build()
    assert after is before
