"""Pods that lack the sidecar that their labels, or those of their namespace, ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controlplane.webhooks.injection_config import InjectionConfigFile
from controlplane.webhooks.unmeshed import UnmeshedPod, UnmeshedPodsMetric, unmeshed_pods
from tests.support.metrics import MOVED_IN, moved
from tests.support.webhooks import cluster_objects, inputs, labelled, pod

SWITCH = "sidecar.istio.io/inject"


def asked_by(namespace_labels: dict[str, str], revision: str = "default", **pod_fields: object) -> str:
    namespaces = (labelled("bookinfo", namespace_labels),)
    objects = cluster_objects(namespaces, pods=(pod("a", **pod_fields),))  # type: ignore[arg-type]
    found = unmeshed_pods(inputs(objects, revision=revision))
    return found[0].asked_by if found else ""


@pytest.mark.parametrize(
    ("namespace_labels", "pod_labels", "expected"),
    [
        ({}, {}, ""),
        ({"istio-injection": "enabled"}, {}, "namespace: istio-injection=enabled"),
        ({"istio-injection": "enabled"}, {SWITCH: "false"}, ""),
        ({"istio-injection": "disabled"}, {SWITCH: "true"}, ""),
        ({"istio.io/rev": "default"}, {}, "namespace: istio.io/rev=default"),
        ({"istio.io/rev": "canary"}, {}, ""),
        ({}, {SWITCH: "true"}, f"pod: {SWITCH}=true"),
        ({}, {"istio.io/rev": "default"}, "pod: istio.io/rev=default"),
        ({}, {"istio.io/rev": "canary"}, ""),
        ({"istio-injection": "disabled"}, {"istio.io/rev": "default"}, ""),
    ],
)
def test_the_labels_decide_as_for_a_new_pod(
    namespace_labels: dict[str, str], pod_labels: dict[str, str], expected: str
) -> None:
    assert asked_by(namespace_labels, labels=pod_labels) == expected


def test_each_revision_reports_its_own_pods() -> None:
    assert asked_by({"istio.io/rev": "canary"}, "canary") == "namespace: istio.io/rev=canary"
    assert asked_by({"istio-injection": "enabled"}, "canary") == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"hostNetwork": True},
        {"annotations": {SWITCH: "false"}},
        {"containers": ("app", "istio-proxy")},
        {"init_containers": ("outrigger-sidecar",)},
        {"phase": "Succeeded"},
        {"namespace": "kube-system"},
    ],
)
def test_pods_that_get_no_sidecar_are_not_reported(fields: dict[str, object]) -> None:
    namespaces = (labelled("bookinfo"), labelled("kube-system"))
    objects = cluster_objects(namespaces, pods=(pod("a", **fields),))  # type: ignore[arg-type]
    assert unmeshed_pods(inputs(objects)) == []


def test_pods_are_sorted_and_counted_by_namespace() -> None:
    pods = (pod("b"), pod("a"), pod("c", "alpha"), pod("d", "unknown"))
    objects = cluster_objects((labelled("bookinfo"), labelled("alpha")), pods=pods)
    found = unmeshed_pods(inputs(objects))
    assert [(each.namespace, each.name) for each in found] == [
        ("alpha", "c"),
        ("bookinfo", "a"),
        ("bookinfo", "b"),
    ]
    registry = CollectorRegistry()
    registry.register(UnmeshedPodsMetric(lambda: found))
    assert registry.get_sample_value("outrigger_unmeshed_pods", {"namespace": "bookinfo"}) == 2
    assert moved(registry) == MOVED_IN["unit/controlplane/webhooks/test_unmeshed.py"]


def test_without_a_valid_configuration_nothing_is_reported(tmp_path: Path) -> None:
    config_file = InjectionConfigFile(tmp_path / "missing", "outrigger-system", registry=CollectorRegistry())
    objects = cluster_objects((labelled("bookinfo"),), pods=(pod("a"),))
    found: list[UnmeshedPod] = unmeshed_pods(inputs(objects, config_file))
    assert found == []
