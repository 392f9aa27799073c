"""The mutating webhook around the pure injector: its inputs, its failures and its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonpatch
import pytest
from prometheus_client import CollectorRegistry

from controlplane.errors import KubernetesError, RefusedError, UnreachableError
from controlplane.injection.injector import inject
from controlplane.injection.request import InjectionRequest
from controlplane.kubernetes.api import Document
from controlplane.webhooks.injection_config import InjectionConfigFile
from controlplane.webhooks.mutate import PodInjection
from tests.support.metrics import MOVED_IN, moved
from tests.support.webhooks import cluster_objects, creation, inputs, labelled, node, pod

NATIVE = node("a", "v1.34.0")
REVIEWS = pod("reviews-1", labels={"app": "reviews"})


class Getter:
    """An API server with one namespace."""

    def __init__(self, answer: Document | KubernetesError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, path: str) -> Document:
        self.asked.append(path)
        if isinstance(self.answer, KubernetesError):
            raise self.answer
        return self.answer


def injection(
    *namespaces: Document,
    get: Getter | None = None,
    registry: CollectorRegistry | None = None,
    **changes: Any,
) -> PodInjection:
    objects = cluster_objects(namespaces, nodes=(NATIVE,))
    return PodInjection(
        inputs(objects, **changes),
        get or Getter(RefusedError(404, "not found")),
        registry=registry or CollectorRegistry(),
    )


def injected(document: Document, namespace: Document) -> Document:
    """The pure injector's result."""
    metadata = namespace["metadata"]
    config = InjectionConfigFile(None, "outrigger-system", registry=CollectorRegistry()).config
    request = InjectionRequest(
        namespace=metadata["name"],
        namespace_labels=metadata.get("labels") or {},
        namespace_annotations=metadata.get("annotations") or {},
        config=config,
        mesh_config=inputs(cluster_objects()).mesh,
        native_sidecars=True,
        revision="default",
    )
    return inject(document, request).pod


async def test_the_patch_makes_the_injected_pod() -> None:
    answer = await injection(labelled("bookinfo")).admit(creation(REVIEWS))
    assert answer.allowed
    patched = jsonpatch.apply_patch(REVIEWS, list(answer.patch))
    assert patched == injected(REVIEWS, labelled("bookinfo"))
    names = [each["name"] for each in patched["spec"]["initContainers"]]
    assert "outrigger-sidecar" in names


async def test_an_unknown_namespace_is_read_from_the_api_server() -> None:
    get = Getter(labelled("bookinfo", {"istio-injection": "disabled"}))
    answer = await injection(get=get).admit(creation(REVIEWS))
    assert (answer.allowed, answer.patch) == (True, ())
    assert get.asked == ["/api/v1/namespaces/bookinfo"]
    assert (await injection(labelled("bookinfo"), get=get).admit(creation(REVIEWS))).patch
    assert len(get.asked) == 1


@pytest.mark.parametrize(
    "failure", [UnreachableError("connection refused"), RefusedError(404, "no such namespace")]
)
async def test_a_pod_of_an_unknown_namespace_is_refused(failure: KubernetesError) -> None:
    answer = await injection(get=Getter(failure)).admit(creation(REVIEWS))
    assert not answer.allowed
    assert answer.code == 500
    assert str(failure) in answer.message


async def test_a_namespace_whose_new_label_the_watch_has_not_reported_is_read_again() -> None:
    get = Getter(labelled("bookinfo"))
    before = labelled("bookinfo", {"istio-injection": "disabled"})
    answer = await injection(before, get=get).admit(creation(REVIEWS))
    assert answer.patch
    assert get.asked == ["/api/v1/namespaces/bookinfo"]


async def test_a_pod_that_seems_to_need_no_sidecar_is_refused_while_the_api_server_is_away() -> None:
    before = labelled("bookinfo", {"istio-injection": "disabled"})
    answer = await injection(before, get=Getter(UnreachableError("refused"))).admit(creation(REVIEWS))
    assert (answer.allowed, answer.code) == (False, 500)


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "outrigger-system/secrets/outrigger-ca-secret", "A"])
async def test_a_caller_cannot_choose_the_path_that_is_read(namespace: str) -> None:
    get = Getter(labelled("bookinfo"))
    answer = await injection(get=get).admit(creation(REVIEWS, namespace=namespace))
    assert not answer.allowed
    assert "is not the name of a namespace" in answer.message
    assert get.asked == []


async def test_a_wrong_annotation_refuses_the_pod_by_its_name() -> None:
    wrong = pod("a", annotations={"sidecar.istio.io/interceptionMode": "SOMETIMES"})
    answer = await injection(labelled("bookinfo")).admit(creation(wrong))
    assert (answer.allowed, answer.code) == (False, 400)
    assert "sidecar.istio.io/interceptionMode" in answer.message
    assert "SOMETIMES" in answer.message


async def test_pods_are_refused_without_a_valid_configuration(tmp_path: Path) -> None:
    missing = InjectionConfigFile(tmp_path / "missing", "outrigger-system", registry=CollectorRegistry())
    answer = await injection(labelled("bookinfo"), config_file=missing).admit(creation(REVIEWS))
    assert (answer.allowed, answer.code) == (False, 500)
    assert "missing cannot be used: the file cannot be read" in answer.message


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": "UPDATE"},
        {"kind": "Deployment"},
        {"sub_resource": "ephemeralcontainers"},
        {"group": "apps"},
    ],
)
async def test_only_new_pods_are_injected(changes: dict[str, str]) -> None:
    answer = await injection(labelled("bookinfo")).admit(creation(REVIEWS, **changes))
    assert (answer.allowed, answer.patch) == (True, ())


async def test_managed_fields_do_not_matter() -> None:
    managed = {**REVIEWS, "metadata": {**REVIEWS["metadata"], "managedFields": [{"manager": "kubectl"}]}}
    answer = await injection(labelled("bookinfo")).admit(creation(managed))
    assert "managedFields" not in str(answer.patch)
    assert jsonpatch.apply_patch(managed, list(answer.patch))["metadata"]["managedFields"]


@pytest.mark.parametrize(
    "odd", [{}, {"spec": None}, {"metadata": [], "spec": {}}, {"spec": {"containers": 7}}]
)
async def test_an_object_that_is_no_pod_is_refused(odd: Document) -> None:
    request = creation(REVIEWS, object=odd)
    assert not (await injection(labelled("bookinfo")).admit(request)).allowed


async def test_outcomes_are_counted() -> None:
    registry = CollectorRegistry()
    webhook = injection(labelled("bookinfo"), registry=registry)
    await webhook.admit(creation(REVIEWS))
    await webhook.admit(creation(pod("a", hostNetwork=True)))
    await webhook.admit(creation(pod("a", annotations={"sidecar.istio.io/proxyCPU": "much"})))
    webhook.note_error(413)
    counts = {
        name: registry.get_sample_value(f"sidecar_injection_{name}_total")
        for name in ("requests", "success", "skip", "failure")
    }
    assert counts == {"requests": 4, "success": 1, "skip": 1, "failure": 2}
    assert registry.get_sample_value("sidecar_injection_time_seconds_count") == 3
    assert moved(registry) == MOVED_IN["unit/controlplane/webhooks/test_mutate.py"]
