"""The chart's objects. `tests/kubernetes/test_helm.py` compares them with those of the real Helm."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.kinds.registry import KINDS
from deploy.generate_manifests import MANIFESTS, SCHEMA, manifests, schema
from outrigger.cluster.objects import Document
from outrigger.installation.chart import Chart, Release
from outrigger.installation.values import given_values
from tests.support.crds import FOREIGN

ROOT = Path(__file__).resolve().parents[4]
CHART = ROOT / "deploy" / "charts" / "outrigger"
SYSTEM = "outrigger-system"


def render(*settings: str) -> dict[str, Document]:
    """The objects by kind and name; of a kind that is there once, also by kind alone."""
    release = Release(name="outrigger", namespace=SYSTEM, service="tests")
    documents = Chart().render(release, given_values([], settings))
    by_name = {f"{each['kind']}/{each['metadata']['name']}": each for each in documents}
    return {**{each["kind"]: each for each in documents}, **by_name}


def test_the_generated_files_are_up_to_date() -> None:
    assert MANIFESTS.read_text() == manifests(), "run `make manifests`"
    assert SCHEMA.read_text() == schema(), "run `make manifests`"


def test_its_version_is_that_of_the_package() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (package, package)


def test_every_value_is_explained() -> None:
    """Each line of a value that is no mapping of more values has a comment above."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    unexplained = [
        line
        for before, line in pairwise(lines)
        if re.match(r"\s*\w+: \S", line) and not before.strip().startswith("#") and not is_obvious(line)
    ]
    assert unexplained == []


def is_obvious(line: str) -> bool:
    """The comment of an earlier line explains these, too."""
    names = {"maxReplicas", "minAvailable", "timeoutSeconds", "limits", "requests", "podAnnotations"}
    names |= {"nodeSelector", "tolerations", "affinity", "serviceAccountAnnotations"}
    return line.strip().partition(":")[0] in names


def test_the_validating_webhook_is_for_exactly_the_supported_kinds() -> None:
    *webhooks, unsupported = render()["ValidatingWebhookConfiguration"]["webhooks"]
    kinds = {(kind.group, kind.plural) for kind in KINDS.values() if not kind.is_core}
    for webhook in webhooks:
        assert kinds_of(webhook) == kinds
    assert kinds_of(unsupported) == set(FOREIGN)


def kinds_of(webhook: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(rule["apiGroups"][0], name) for rule in webhook["rules"] for name in rule["resources"]}


# The last two: whether a webhook of the default revision, and of the revision canary, is called.
@pytest.mark.parametrize(
    ("namespace", "pod", "default", "canary"),
    [
        ({}, {}, False, False),
        ({"istio-injection": "enabled"}, {}, True, False),
        ({"istio-injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, False, False),
        ({"istio-injection": "disabled"}, {"sidecar.istio.io/inject": "true"}, False, False),
        ({}, {"sidecar.istio.io/inject": "true"}, True, False),
        ({"istio.io/rev": "default"}, {}, True, False),
        ({"istio.io/rev": "canary"}, {}, False, True),
        ({"istio.io/rev": "canary"}, {"sidecar.istio.io/inject": "false"}, False, False),
        ({"istio.io/rev": "other"}, {"sidecar.istio.io/inject": "true"}, False, False),
        ({"istio-injection": "enabled", "istio.io/rev": "canary"}, {}, True, False),
        ({"istio-injection": "enabled"}, {"istio.io/rev": "canary"}, True, False),
        ({}, {"istio.io/rev": "canary"}, False, True),
        ({}, {"istio.io/rev": "canary", "sidecar.istio.io/inject": "true"}, False, True),
        ({}, {"istio.io/rev": "default"}, True, False),
        ({"istio-injection": "enabled", "kubernetes.io/metadata.name": "kube-system"}, {}, False, False),
        ({"istio-injection": "enabled", "kubernetes.io/metadata.name": SYSTEM}, {}, False, False),
    ],
)
def test_a_pod_is_sent_to_one_revision_at_most(
    namespace: Mapping[str, str], pod: Mapping[str, str], default: bool, canary: bool
) -> None:
    calls = [list(called(render(f"revision={name}"), namespace, pod)) for name in ("default", "canary")]
    assert [len(each) for each in calls] == [int(default), int(canary)]


def test_all_pods_are_sent_where_namespaces_are_injected_by_default() -> None:
    objects = render("injection.enableNamespacesByDefault=true")
    assert len(list(called(objects, {}, {}))) == 1
    assert list(called(objects, {"istio-injection": "disabled"}, {})) == []
    assert list(called(objects, {"kubernetes.io/metadata.name": "kube-system"}, {})) == []


def called(
    objects: Mapping[str, Document], namespace: Mapping[str, str], pod: Mapping[str, str]
) -> Iterator[str]:
    """The names of the webhooks whose selectors match."""
    for webhook in objects["MutatingWebhookConfiguration"]["webhooks"]:
        if matches(webhook["namespaceSelector"], namespace) and matches(webhook["objectSelector"], pod):
            yield webhook["name"]


def matches(selector: Document, labels: Mapping[str, str]) -> bool:
    """As Kubernetes matches labels: NotIn holds for a label that is missing."""
    holds = {
        "In": lambda label, values: label in values,
        "NotIn": lambda label, values: label not in values,
        "DoesNotExist": lambda label, _: label is None,
    }
    return all(
        holds[each["operator"]](labels.get(each["key"]), each.get("values", ()))
        for each in selector["matchExpressions"]
    )


def test_no_object_of_a_revision_has_the_name_of_the_default_ones() -> None:
    def names(objects: Mapping[str, Document]) -> set[str]:
        return {name for name in objects if "/" in name}

    assert names(render()) & names(render("revision=canary")) == set()


def test_webhooks_fail_closed_and_leave_the_ca_bundle_to_the_control_plane() -> None:
    objects = render()
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in objects[kind]["webhooks"]:
            only_warns = webhook["name"] == "unsupported.validation.outrigger.dev"
            assert webhook["failurePolicy"] == ("Ignore" if only_warns else "Fail")
            assert webhook["sideEffects"] == "None"
            assert webhook["clientConfig"].keys() == {"service"}


def test_the_liveness_probes_pass_while_the_api_server_is_away() -> None:
    (container,) = pod_spec(render())["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/ready"}


def pod_spec(objects: Mapping[str, Document]) -> Document:
    spec: Document = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("settings", "budget", "replicas"),
    [
        ([], True, None),
        (["controlPlane.autoscaling.minReplicas=1"], False, None),
        (["controlPlane.autoscaling.enabled=false"], True, 2),
        (["controlPlane.autoscaling.enabled=false", "controlPlane.replicas=1"], False, 1),
    ],
)
def test_a_single_replica_can_be_drained(settings: list[str], budget: bool, replicas: int | None) -> None:
    objects = render(*settings)
    assert ("PodDisruptionBudget" in objects) == budget
    assert objects["Deployment"]["spec"].get("replicas") == replicas
    assert ("HorizontalPodAutoscaler" in objects) == (replicas is None)


def test_a_change_of_the_mesh_configuration_restarts_the_pods() -> None:
    def template(*settings: str) -> Any:
        return render(*settings)["Deployment"]["spec"]["template"]

    assert template() == template("injection.config.policy=disabled")
    assert template() != template("meshConfig.trustDomain=example.org")
