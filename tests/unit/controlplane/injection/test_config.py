from __future__ import annotations

from importlib.metadata import version

import pytest

from controlplane.errors import SettingsError
from controlplane.injection.config import InjectionConfig, Policy
from tests.support.injection import injected, pod


def test_an_empty_configuration_has_the_defaults() -> None:
    config = InjectionConfig.parse("")
    assert config == InjectionConfig.parse("# nothing\n") == InjectionConfig()
    assert config.policy is Policy.ENABLED
    assert config.values.tag == version("outrigger")


def test_the_address_of_the_control_plane_depends_on_the_revision() -> None:
    values = InjectionConfig.parse("values: {systemNamespace: mesh}").values
    assert values.address("default") == "outrigger-controlplane.mesh.svc:15012"
    assert values.address("canary") == "outrigger-controlplane-canary.mesh.svc:15012"
    values = InjectionConfig.parse("values: {controlPlaneAddress: '10.0.0.1:15012'}").values
    assert values.address("canary") == "10.0.0.1:15012"


@pytest.mark.parametrize(
    "template", ["{}", "{metadata: {labels: {a: b}}}", "{spec: null}", "{spec: {volumes: null}}"]
)
def test_a_template_can_omit_parts_of_a_pod(template: str) -> None:
    config = f"templates: {{mine: {template}}}\ndefaultTemplates: [sidecar, mine]"
    result = injected(pod(), config=config)
    assert injected(result, config=config) == result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("policy: sometimes", "injection configuration.policy: 'sometimes' is not one of"),
        ("polcy: enabled", "injection configuration.polcy: unknown field; did you mean `policy`?"),
        ("a: b: c", "injection configuration: line 1, column 5"),
        ("- a", "injection configuration: should be a mapping"),
        ("a: 1\n---\nb: 1", "injection configuration: expected one YAML document"),
        ("neverInjectSelector: {}", "injection configuration.neverInjectSelector: should be a list"),
        (
            "alwaysInjectSelector: [{matchExpressions: [{key: a, operator: Is}]}]",
            "alwaysInjectSelector[0].matchExpressions[0].operator: 'Is' is not one of",
        ),
        (
            "alwaysInjectSelector: [{matchExpressions: [{key: a, operator: In}]}]",
            "should have `values` for the operators In and NotIn",
        ),
        ("values: {proxy: {includeOutboundIPRanges: all}}", "includeOutboundIPRanges: 'all' is not a CIDR"),
        ("values: {tokenExpirationSeconds: 10}", "values.tokenExpirationSeconds: should be"),
        ("values: {controlPlaneAddress: here}", "values.controlPlaneAddress: 'here' is not an address"),
        ("templates: {a: {spec: {imagePullSecrets: [{}]}}}", "imagePullSecrets[0].name: is required"),
        ("values: {dataPlane: nginx}", "values.dataPlane: 'nginx' is not one of"),
        ("templates: {sidecar: {}}", "'sidecar' is the name of a built-in template"),
        (
            "templates: {a: {spec: {containers: [{image: x}]}}}",
            "a: template.spec.containers[0].name: is required",
        ),
        ("templates: {a: {rules: []}}", "a: template.rules: unknown field"),
        ("templates: {a: 'b: c: d'}", "a: line 1"),
        (
            "templates: {a: {spec: {containers: [{name: x, $patch: delete}]}}}",
            "a: the directive '$patch' is not supported",
        ),
        ("defaultTemplates: [mine]", "unknown template 'mine': expected one of gateway, sidecar"),
        ("defaultTemplates: []", "defaultTemplates: should have at least one item"),
        ("aliases: {a: [b]}", "unknown template 'b'"),
    ],
)
def test_an_invalid_configuration_is_refused_with_the_field(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        InjectionConfig.parse(text)
    assert reason in str(refusal.value)
