from __future__ import annotations

from typing import Any

import pytest

from controlplane.injection.selection import wanted_revision
from tests.support.injection import injection, pod

_INJECT = "sidecar.istio.io/inject"
_NEVER = "neverInjectSelector: [{matchLabels: {tier: batch}}]"
_ALWAYS = "alwaysInjectSelector: [{matchExpressions: [{key: tier, operator: Exists}]}]"


@pytest.mark.parametrize(
    ("given", "settings", "reason"),
    [
        (pod(hostNetwork=True, labels={_INJECT: "true"}), {}, "hostNetwork"),
        (pod(labels={_INJECT: "true"}), {"namespace": "kube-public"}, "system namespace"),
        (pod(labels={_INJECT: "true"}), {"namespace": "outrigger-system"}, "system namespace"),
        (pod(), {"namespace": "mesh", "config": "values: {systemNamespace: mesh}"}, "system namespace"),
        (
            pod(labels={_INJECT: "true"}),
            {"namespace_labels": {"istio-injection": "disabled"}},
            "istio-injection=disabled",
        ),
        (pod(labels={_INJECT: "false"}), {}, "label sidecar.istio.io/inject is false"),
        (pod(annotations={_INJECT: "false"}), {}, "annotation sidecar.istio.io/inject is false"),
        (pod(labels={"tier": "batch"}), {"config": _NEVER}, "neverInjectSelector"),
        (pod(labels={"tier": "batch"}), {"config": f"{_NEVER}\n{_ALWAYS}"}, "neverInjectSelector"),
        (pod(), {"config": "policy: disabled"}, "the policy is disabled"),
        (pod(labels={"istio.io/rev": "canary"}), {}, "the revision canary injects this pod"),
        (pod(initContainers=[{"name": "istio-proxy"}]), {}, "istio-proxy"),
    ],
)
def test_a_pod_is_not_injected_for_a_reason(given: Any, settings: Any, reason: str) -> None:
    result = injection(given, **settings)
    assert not result.injected
    assert reason in result.skipped
    assert result.pod is given


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (pod(labels={_INJECT: "true"}, annotations={_INJECT: "false"}), ""),
        (pod(labels={_INJECT: "true", "tier": "batch"}), _NEVER),
        (pod(labels={_INJECT: "true"}), "policy: disabled"),
        (pod(labels={"tier": "web"}), f"policy: disabled\n{_ALWAYS}"),
        (pod(), "neverInjectSelector: [{}]"),
    ],
    ids=["label before annotation", "before selector", "before policy", "selector before policy", "empty"],
)
def test_a_pod_is_injected(given: Any, config: str) -> None:
    assert injection(given, config=config).injected


def test_an_invalid_switch_is_reported_and_means_unset() -> None:
    result = injection(pod(labels={_INJECT: "yes"}, annotations={_INJECT: "false"}))
    assert result.injected, "the label hides the annotation"
    [warning] = result.warnings
    assert "label sidecar.istio.io/inject: 'yes' is ignored" in warning


@pytest.mark.parametrize(
    ("namespace", "labels", "revision"),
    [
        ({}, {}, ""),
        ({}, {"istio.io/rev": "canary"}, "canary"),
        ({"istio.io/rev": "stable"}, {"istio.io/rev": "canary"}, "stable"),
        ({"istio-injection": "enabled", "istio.io/rev": "stable"}, {"istio.io/rev": "canary"}, "default"),
    ],
)
def test_the_namespace_decides_the_revision_before_the_pod(
    namespace: dict[str, str], labels: dict[str, str], revision: str
) -> None:
    assert wanted_revision(namespace, labels) == revision
