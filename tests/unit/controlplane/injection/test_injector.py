from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch
import pytest

from controlplane.errors import InjectionError
from controlplane.injection.json_patch import json_patch
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy_config import ProxyConfig
from tests.support.injection import container, environment, injected, injection, names, pod, status

_HOLD = MeshConfig(default_config=ProxyConfig(hold_application_until_proxy_starts=True))
_PLUGIN = "values: {init: {cni: true}}"


def named(*given: str) -> list[dict[str, str]]:
    return [{"name": name, "image": "example.com/x:1"} for name in given]


def test_the_given_pod_is_not_changed() -> None:
    given = pod(
        container={"readinessProbe": {"tcpSocket": {"port": 1}}}, annotations={"prometheus.io/port": "1"}
    )
    before = copy.deepcopy(given)
    assert injected(given) != given
    assert given == before


def test_the_patch_turns_the_pod_into_the_injected_pod() -> None:
    given = pod(container={"readinessProbe": {"tcpSocket": {"port": 1}}}, initContainers=named("a", "b"))
    result = injected(given)
    assert jsonpatch.apply_patch(given, json_patch(given, result)) == result
    assert json_patch(given, given) == []


@pytest.mark.parametrize(
    ("settings", "init_containers", "containers"),
    [
        ({}, ["outrigger-init", "outrigger-sidecar", "a", "b"], ["web", "two"]),
        ({"config": _PLUGIN}, ["outrigger-validation", "outrigger-sidecar", "a", "b"], ["web", "two"]),
        ({"native_sidecars": False}, ["a", "b", "outrigger-init"], ["web", "two", "outrigger-sidecar"]),
        (
            {"native_sidecars": False, "config": _PLUGIN},
            ["outrigger-validation", "a", "b"],
            ["web", "two", "outrigger-sidecar"],
        ),
        (
            {"native_sidecars": False, "mesh": _HOLD},
            ["a", "b", "outrigger-init"],
            ["outrigger-sidecar", "web", "two"],
        ),
        (
            {"config": "values: {dataPlane: envoy}"},
            ["outrigger-init", "outrigger-agent", "outrigger-sidecar", "a", "b"],
            ["web", "two"],
        ),
    ],
)
def test_the_order_of_the_containers(
    settings: Any, init_containers: list[str], containers: list[str]
) -> None:
    result = injected(pod(initContainers=named("a", "b"), containers=named("web", "two")), **settings)
    assert names(result, "initContainers") == init_containers
    assert names(result, "containers") == containers
    assert injected(result, **settings) == result


@pytest.mark.parametrize(
    ("config", "annotation", "detected", "native"),
    [
        ("auto", None, True, True),
        ("auto", None, False, False),
        ("always", None, False, True),
        ("never", None, True, False),
        ("never", "true", False, True),
        ("always", "false", True, False),
    ],
)
def test_the_pod_decides_whether_the_sidecar_is_native(
    config: str, annotation: str | None, detected: bool, native: bool
) -> None:
    annotations = {} if annotation is None else {"sidecar.istio.io/nativeSidecar": annotation}
    result = injected(
        pod(annotations=annotations),
        config=f"values: {{nativeSidecars: {config}}}",
        native_sidecars=detected,
    )
    assert ("outrigger-sidecar" in names(result, "initContainers")) is native
    assert container(result).get("restartPolicy") == ("Always" if native else None)


def test_the_status_names_only_the_objects_that_were_added() -> None:
    result = injected(
        pod(imagePullSecrets=[{"name": "shared"}], volumes=[{"name": "own", "emptyDir": {}}]),
        config="values: {imagePullSecrets: [shared, mesh]}",
    )
    assert names(result, "imagePullSecrets") == ["shared", "mesh"]
    assert status(result) == {
        "initContainers": ["outrigger-init", "outrigger-sidecar"],
        "containers": [],
        "volumes": ["outrigger-token", "outrigger-ca", "outrigger-state"],
        "imagePullSecrets": ["mesh"],
        "revision": "default",
        "prometheus": {},
    }


def test_a_second_injection_replaces_the_first_by_the_new_configuration() -> None:
    given = pod(
        container={"readinessProbe": {"httpGet": {"path": "/", "port": 80}}},
        annotations={"prometheus.io/port": "9090"},
    )
    old = injected(given, config="values: {tag: old, imagePullSecrets: [old], dataPlane: envoy}")
    assert injected(old, config="values: {tag: new}") == injected(given, config="values: {tag: new}")


def test_an_injection_is_undone_where_a_setting_turns_it_off() -> None:
    given = pod(
        container={"livenessProbe": {"grpc": {"port": 80}, "periodSeconds": 3}},
        annotations={"prometheus.io/port": "9090"},
    )
    result = injected(given)
    result["metadata"]["annotations"] |= {
        "sidecar.istio.io/rewriteAppHTTPProbers": "false",
        "prometheus.istio.io/merge-metrics": "false",
    }
    again = injected(result)
    assert container(again, "web") == container(given, "web")
    assert again["metadata"]["annotations"]["prometheus.io/port"] == "9090"
    assert "prometheus.io/path" not in again["metadata"]["annotations"]


def test_a_customization_survives_a_second_injection() -> None:
    own = {"name": "outrigger-sidecar", "image": "auto", "env": [{"name": "A", "value": "1"}]}
    result = injected(pod(containers=[*named("web"), own]))
    assert environment(result)["A"] == "1"
    stored = json.loads(result["metadata"]["annotations"]["proxy.istio.io/overrides"])
    assert stored == {"containers": [own]}
    again = injected(result, native_sidecars=False)
    assert names(again, "containers") == ["web", "outrigger-sidecar"]
    assert environment(again)["A"] == "1"


@pytest.mark.parametrize(
    ("given", "settings", "reason"),
    [
        (
            pod(volumes=[{"name": "outrigger-token", "emptyDir": {}}]),
            {},
            "volume outrigger-token: a template adds a volume of this name",
        ),
        (
            pod(initContainers=named("outrigger-agent")),
            {},
            "container outrigger-agent: the name is reserved, and no template adds it",
        ),
        (
            pod(annotations={"prometheus.io/port": "15021"}),
            {},
            "prometheus.io/port: '15021' is a port of the",
        ),
        (
            pod(annotations={"proxy.istio.io/config": "proxyMetadata: {POD_NAME: x}"}),
            {},
            "proxyMetadata: the variable POD_NAME is set by the injector",
        ),
        (
            pod(annotations={"proxy.istio.io/config": "proxyMetadata: {OUTRIGGER_DNS_CAPTURE: 'false'}"}),
            {},
            "proxyMetadata: the variable OUTRIGGER_DNS_CAPTURE is set by the injector",
        ),
        (
            pod(annotations={"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_NAMESPACE: kube-system}"}),
            {},
            "proxyMetadata: ISTIO_META_NAMESPACE: the metadata NAMESPACE are set by the injector",
        ),
    ],
)
def test_a_clash_refuses_the_pod(given: Any, settings: Any, reason: str) -> None:
    with pytest.raises(InjectionError) as refusal:
        injected(given, **settings)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "pod: should be"),
        ({}, "pod.spec: is required"),
        ({"spec": {"containers": {}}}, "pod.spec.containers: should be"),
        ({"spec": {"containers": [{"image": "x"}]}}, "pod.spec.containers[0].name: is required"),
        (
            {"spec": {"containers": [{"name": "x", "ports": [{"containerPort": "80"}]}]}},
            "containerPort: should",
        ),
        (
            {"spec": {"containers": [{"name": "x", "env": ["A=1"]}]}},
            "pod.spec.containers[0].env[0]: should be",
        ),
        ({"spec": {"containers": [], "volumes": [{}]}}, "pod.spec.volumes[0].name: is required"),
        (
            {"metadata": {"labels": {"a": 1}}, "spec": {"containers": []}},
            "pod.metadata.labels.a: should be a",
        ),
    ],
)
def test_a_malformed_pod_is_refused_with_the_field(given: Any, reason: str) -> None:
    with pytest.raises(InjectionError) as refusal:
        injected(given)
    assert reason in str(refusal.value)


def test_a_malformed_stored_customization_is_refused() -> None:
    result = injected(pod())
    result["metadata"]["annotations"]["proxy.istio.io/overrides"] = '{"containers":[{"name":"x","env":[1]}]}'
    with pytest.raises(InjectionError, match=r"containers\[1\]\.env\[0\]"):
        injected(result)


def test_nulls_are_missing_fields() -> None:
    given = pod(initContainers=None, volumes=None, imagePullSecrets=None, securityContext=None)
    given["metadata"] |= {"labels": None, "annotations": None, "ownerReferences": None}
    given["spec"]["containers"][0] |= {"env": None, "ports": None, "lifecycle": None, "readinessProbe": None}
    assert injection(given).injected


@pytest.mark.parametrize("context", [None, {"runAsUser": 4000}])
def test_a_transparent_proxy_stays_root(context: Any) -> None:
    own = {"name": "outrigger-sidecar", "image": "auto", "securityContext": context}
    annotations = {"sidecar.istio.io/interceptionMode": "TPROXY"}
    result = injected(pod(containers=[*named("web"), own], annotations=annotations))
    assert container(result)["securityContext"]["runAsUser"] == 0
    assert "--proxy-uid=1337" in container(result, "outrigger-init")["args"]


def test_the_canonical_name_fits_a_label() -> None:
    result = injected(pod(metadata={"name": f"{'a' * 60}.-.-b"}))
    assert result["metadata"]["labels"]["service.istio.io/canonical-name"] == "a" * 60
