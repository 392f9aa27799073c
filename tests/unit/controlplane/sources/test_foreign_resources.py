from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry

from controlplane.resources.foreign import AUTHORIZATION_POLICY, ForeignKind
from controlplane.sources.foreign_resources import ForeignResources
from tests.support.metrics import MOVED_IN, moved

FILTER = ForeignKind(group="networking.istio.io", name="EnvoyFilter")


def count(registry: CollectorRegistry, kind: ForeignKind) -> float | None:
    labels = {"group": kind.group, "kind": kind.name}
    return registry.get_sample_value("outrigger_unsupported_resources", labels)


def test_each_kind_is_counted_and_listed_with_its_consequence() -> None:
    registry = CollectorRegistry()
    resources = ForeignResources(registry)
    resources.update(FILTER)
    resources.update(AUTHORIZATION_POLICY, present=[("b", "x"), ("a", "y")])
    filters, policies = resources.listing()
    assert (filters.kind, filters.count, filters.resources) == ("EnvoyFilter", 0, ())
    assert (policies.group, policies.count) == ("security.istio.io", 2)
    assert policies.resources == ("a/y", "b/x")
    assert "no request is denied" in policies.consequence
    assert (count(registry, FILTER), count(registry, AUTHORIZATION_POLICY)) == (0, 2)
    assert moved(registry) == MOVED_IN["unit/controlplane/sources/test_foreign_resources.py"]
    resources.update(AUTHORIZATION_POLICY, gone=[("a", "y")])
    assert count(registry, AUTHORIZATION_POLICY) == 1


def test_a_removed_kind_leaves_no_resources() -> None:
    registry = CollectorRegistry()
    resources = ForeignResources(registry)
    resources.update(FILTER, present=[("a", "x")])
    resources.forget(FILTER)
    resources.forget(FILTER)
    assert resources.listing() == []
    assert count(registry, FILTER) is None


def test_long_lists_are_cut() -> None:
    resources = ForeignResources(CollectorRegistry())
    resources.update(FILTER, present=[("a", f"x{number:05}") for number in range(5000)])
    [listed] = resources.listing()
    assert listed.count == 5000
    assert len(listed.resources) == 100


def test_a_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    resources = ForeignResources(CollectorRegistry())
    resources.update(FILTER)
    assert not caplog.records
    resources.update(FILTER, present=[("a", str(number)) for number in range(7)])
    resources.update(FILTER, present=[("a", "later")])
    [line] = caplog.messages
    assert line == (
        "EnvoyFilter (networking.istio.io) is not supported, it has no effect: "
        "a/0, a/1, a/2, a/3, a/4 and 2 more"
    )
