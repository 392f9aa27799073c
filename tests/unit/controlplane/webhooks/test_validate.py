"""Resources before they are stored: refused with the words of their status, or admitted with its warnings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.kinds.registry import KINDS
from controlplane.model.store import Store
from controlplane.webhooks.admission import AdmissionRequest, Answer
from controlplane.webhooks.validate import ResourceValidation
from tests.support.documents import (
    Document,
    destination,
    destination_rule,
    document,
    feed_cluster,
    key_of,
    service,
    virtual_service,
    workload,
)
from tests.support.metrics import MOVED_IN, moved

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EARLIER = "2026-01-01T00:00:00Z"
REVIEWS = service("reviews")
ROUTE = virtual_service("reviews", ["reviews"], destination("reviews"))


def cluster_store(*resources: Document) -> Store:
    store = Store(KINDS, clock=lambda: NOW)
    for each in resources:
        metadata = {"creationTimestamp": EARLIER, **each["metadata"]}
        feed_cluster(store, {**each, "metadata": metadata}, generation=1)
    store.build()
    return store


def create(resource: Document, **changes: Any) -> AdmissionRequest:
    group, _, version = resource["apiVersion"].rpartition("/")
    metadata = resource["metadata"]
    request = AdmissionRequest(
        uid="u",
        operation="CREATE",
        namespace=metadata.get("namespace", ""),
        name=metadata.get("name", ""),
        group=group,
        version=version,
        kind=resource["kind"],
        resource=KINDS[resource["kind"]].plural if resource["kind"] in KINDS else "others",
        sub_resource="",
        object=resource,
    )
    return replace(request, **changes)


def update(resource: Document, old: Document, **changes: Any) -> AdmissionRequest:
    return create(resource, operation="UPDATE", old_object=old, **changes)


async def admit(store: Store, request: AdmissionRequest) -> Answer:
    return await ResourceValidation(store, registry=CollectorRegistry(), clock=lambda: NOW).admit(request)


INVALID = [
    virtual_service("a", ["reviews"], {"destination": {"host": "reviews"}, "wieght": 1}),
    document("VirtualService", "a", {"hosts": ["a"], "http": [{"match": [{"uri": {"regex": "("}}]}]}),
    document("DestinationRule", "a", {"host": "a", "trafficPolicy": {"tls": {"mode": "MAYBE"}}}),
    document("ServiceEntry", "a", {"hosts": []}),
    document("Sidecar", "a", {"egress": [{"hosts": ["nonsense"]}]}),
    document("PeerAuthentication", "a", {"mtls": {"mode": 7}}),
    document("WorkloadEntry", "a", {"address": "not an address"}),
    document("VirtualService", "a", "a string"),
    {**ROUTE, "extra": 1},
]


@pytest.mark.parametrize("resource", INVALID, ids=lambda each: each["kind"])
async def test_an_invalid_resource_is_refused_with_the_words_of_its_status(resource: Document) -> None:
    store = cluster_store(REVIEWS)
    answer = await admit(store, create(resource))
    assert not answer.allowed
    assert store.status(key_of(resource)) is None  # nothing was stored
    feed_cluster(store, resource, generation=1)
    store.build()
    status = store.status(key_of(resource))
    assert status is not None
    assert answer.message == "; ".join(status.reasons)


async def test_every_version_of_a_kind_is_validated() -> None:
    for version in ("v1", "v1beta1", "v1alpha3"):
        resource = {**INVALID[0], "apiVersion": f"networking.istio.io/{version}"}
        assert not (await admit(cluster_store(REVIEWS), create(resource))).allowed


async def test_a_valid_resource_gets_the_warnings_of_its_status() -> None:
    gateway_route = virtual_service("c", ["reviews"], destination("reviews"))
    gateway_route["spec"]["gateways"] = ["ingress"]
    resources = [
        virtual_service("a", ["nowhere"], destination("reviews", "v9")),
        virtual_service("b", ["reviews"], destination("elsewhere")),
        gateway_route,
        destination_rule("d", "nowhere"),
        workload("e", "10.0.0.1", {}, network="other"),
    ]
    for resource in resources:
        store = cluster_store(REVIEWS, destination_rule("reviews", "reviews", "v1"))
        answer = await admit(store, create(resource))
        feed_cluster(store, resource, generation=1)
        store.build()
        status = store.status(key_of(resource))
        assert status is not None
        assert answer.allowed
        assert answer.warnings == (*status.warnings, *status.unresolved)
        assert answer.warnings


async def test_a_resource_without_faults_gets_no_warning() -> None:
    assert await admit(cluster_store(REVIEWS), create(ROUTE)) == Answer()


async def test_a_new_resource_that_contradicts_an_older_one_is_admitted_with_a_warning() -> None:
    store = cluster_store(REVIEWS, ROUTE)
    other = virtual_service("other", ["reviews"], destination("reviews"))
    answer = await admit(store, create(other))
    assert answer.allowed
    [warning] = answer.warnings
    assert "the host reviews.default.svc.cluster.local is already routed by VirtualService" in warning
    assert warning.endswith("it is not in force")


async def test_an_update_replaces_the_stored_version() -> None:
    store = cluster_store(REVIEWS, ROUTE)
    assert await admit(store, update(ROUTE, ROUTE)) == Answer()
    changed = virtual_service("reviews", ["nowhere"], destination("reviews"))
    assert (
        "spec.hosts[0]: no service has the host" in (await admit(store, update(changed, ROUTE))).warnings[0]
    )
    status = store.status(key_of(ROUTE))
    assert status is not None
    assert not status.warnings
    assert not store.has_news


async def test_an_invalid_update_is_refused() -> None:
    invalid = {**INVALID[0], "metadata": ROUTE["metadata"]}
    answer = await admit(cluster_store(REVIEWS, ROUTE), update(invalid, ROUTE))
    assert not answer.allowed
    assert "wieght: unknown field" in answer.message


async def test_the_metadata_of_a_stored_invalid_resource_can_change() -> None:
    """Or else its finalizers could not be removed."""
    stored = {**INVALID[0], "metadata": {**INVALID[0]["metadata"], "finalizers": ["a"]}}
    answer = await admit(cluster_store(REVIEWS), update(INVALID[0], stored))
    assert answer.allowed
    assert "wieght: unknown field" in answer.warnings[0]


@pytest.mark.parametrize(
    "changes", [{"sub_resource": "status"}, {"operation": "DELETE"}, {"operation": "CONNECT"}]
)
async def test_status_updates_and_deletions_pass(changes: dict[str, str]) -> None:
    assert await admit(cluster_store(), create(INVALID[0], **changes)) == Answer()


async def test_an_unsupported_kind_that_may_restrict_traffic_gets_the_words_of_its_status() -> None:
    policy = {**document("AuthorizationPolicy", "a", {}), "apiVersion": "security.istio.io/v1"}
    answer = await admit(cluster_store(), create(policy))
    assert answer.allowed
    [warning] = answer.warnings
    assert "no request is denied" in warning


async def test_other_kinds_pass() -> None:
    assert (
        await admit(cluster_store(), create({**document("Deployment", "a", {}), "apiVersion": "apps/v1"}))
        == Answer()
    )


async def test_a_generated_name_is_no_fault() -> None:
    nameless = {**ROUTE, "metadata": {"generateName": "reviews-", "namespace": "default"}}
    assert (await admit(cluster_store(REVIEWS), create(nameless))).allowed


@pytest.mark.parametrize("metadata", [None, [], {"labels": 7}, {"name": "UPPER"}])
async def test_odd_metadata_is_a_refusal_or_nothing(metadata: Any) -> None:
    odd = {**ROUTE, "metadata": metadata}
    answer = await admit(cluster_store(REVIEWS), replace(create(ROUTE), object=odd))
    assert answer.allowed is (not metadata)


async def test_outcomes_are_counted_by_resource() -> None:
    registry = CollectorRegistry()
    validation = ResourceValidation(cluster_store(REVIEWS), registry=registry)
    await validation.admit(create(ROUTE))
    await validation.admit(create(INVALID[0]))
    validation.note_error(413)
    # A caller that is no API server creates no series.
    for number in range(3):
        await validation.admit(
            replace(create(ROUTE), group=f"{number}", version=f"{number}", resource=f"{number}")
        )
    names = {"group": "networking.istio.io", "version": "v1", "resource": "virtualservices"}
    assert registry.get_sample_value("galley_validation_passed_total", names) == 1
    assert (
        registry.get_sample_value("galley_validation_failed_total", {**names, "reason": "invalid_resource"})
        == 1
    )
    series = [s for f in registry.collect() for s in f.samples if s.name == "galley_validation_passed_total"]
    assert len(series) == 2
    assert moved(registry) == MOVED_IN["unit/controlplane/webhooks/test_validate.py"]
