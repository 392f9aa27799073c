from __future__ import annotations

import copy
import json

import pytest

from controlplane.errors import InjectionError
from tests.support.injection import injected, injection, pod

_TRAFFIC = "traffic.sidecar.istio.io"
_DNS = "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}"
_READINESS = "readiness.status.sidecar.istio.io"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sidecar.istio.io/interceptionMode", "redirect", "should be one of REDIRECT, TPROXY, NONE"),
        (f"{_TRAFFIC}/includeOutboundIPRanges", "10.0.0.0/33", "is not a CIDR"),
        (f"{_TRAFFIC}/includeOutboundIPRanges", "10.0.0.1", "is not a CIDR"),
        (f"{_TRAFFIC}/includeOutboundIPRanges", "*,10.0.0.0/8", "is not a CIDR"),
        (f"{_TRAFFIC}/excludeOutboundIPRanges", "*", "is not a CIDR"),
        (f"{_TRAFFIC}/includeInboundPorts", "http", "is not a port number"),
        (f"{_TRAFFIC}/includeInboundPorts", "80,", "is not a port number"),
        (f"{_TRAFFIC}/excludeInboundPorts", "65536", "is not a port number"),
        (f"{_TRAFFIC}/excludeInboundPorts", "*", "is not a port number"),
        (f"{_TRAFFIC}/includeOutboundPorts", "-1", "is not a port number"),
        (f"{_TRAFFIC}/excludeOutboundPorts", "0", "is not a port number"),
        (f"{_TRAFFIC}/excludeInterfaces", "eth0; reboot", "is not the name of a network interface"),
        ("istio.io/reroute-virtual-interfaces", "a-name-that-is-too-long", "is not the name of a network"),
        ("sidecar.istio.io/proxyCPU", "lots", "is not a quantity"),
        ("sidecar.istio.io/proxyMemory", "-1Gi", "is not a quantity"),
        ("sidecar.istio.io/proxyCPULimit", "", "is not a quantity"),
        ("sidecar.istio.io/proxyMemoryLimit", "1GB", "is not a quantity"),
        ("sidecar.istio.io/proxyImage", " ", "should not be empty"),
        ("sidecar.istio.io/nativeSidecar", "maybe", "should be true or false"),
        ("sidecar.istio.io/capNetBindService", "yes", "should be true or false"),
        ("sidecar.istio.io/logLevel", "loud", "should be one of trace, debug"),
        ("sidecar.istio.io/agentLogLevel", "ads:debug", "should be one of trace, debug"),
        ("sidecar.istio.io/userVolume", "{", "is not JSON"),
        ("sidecar.istio.io/userVolume", "[{}]", "should be a JSON list of objects with a name"),
        ("sidecar.istio.io/userVolume", "[" * 100_000, "is"),
        ("sidecar.istio.io/userVolumeMount", '[{"name": "a"}]', "each mount should have a mountPath"),
        ("sidecar.istio.io/bootstrapOverride", "my-config-map", "should be one YAML mapping"),
        ("sidecar.istio.io/bootstrapOverride", "a: b: c", "is not YAML"),
        ("sidecar.istio.io/bootstrapOverride", "admin: {}", "the field admin is set by the injector"),
        ("sidecar.istio.io/bootstrapOverride", "node: {id: x}", "the field node is set by the injector"),
        ("sidecar.istio.io/bootstrapOverride", "dynamicResources: null", "is set by the injector"),
        ("sidecar.istio.io/bootstrapOverride", "a: .nan", "a number that JSON does not have"),
        ("sidecar.istio.io/userVolume", '[{"name": "a", "b": NaN}]', "NaN is not a number of JSON"),
        ("status.sidecar.istio.io/port", "65536", "should be a port number, or 0"),
        (f"{_TRAFFIC}/includeInboundPorts", "8080,15020", "15020 is a port of the proxy"),
        ("prometheus.io/port", "http", "is not a port number"),
        ("prometheus.io/port", "0", "is not a port number"),
        ("prometheus.io/port", "65536", "is not a port number"),
        ("prometheus.io/port", "015021", "is a port of the proxy"),
        (f"{_TRAFFIC}/excludeInterfaces", "-j", "is not the name of a network interface"),
        (f"{_TRAFFIC}/excludeInterfaces", "eth0!", "is not the name of a network interface"),
        (f"{_TRAFFIC}/excludeInterfaces", "+", "is not the name of a network interface"),
        (f"{_READINESS}/initialDelaySeconds", "-1", "should be a number, 0 or more"),
        (f"{_READINESS}/periodSeconds", "0", "should be a number, 1 or more"),
        (f"{_READINESS}/failureThreshold", "many", "should be a number, 0 or more"),
        ("prometheus.istio.io/merge-metrics", "on", "should be true or false"),
        ("proxy.istio.io/config", "concurrency: two", "config.concurrency: should be an integer"),
        ("proxy.istio.io/config", "concurrency: 257", "config.concurrency: "),
        ("proxy.istio.io/config", "concurency: 2", "unknown field; did you mean `concurrency`?"),
        ("proxy.istio.io/config", "- 1", "should be one YAML mapping"),
        ("proxy.istio.io/config", "discoveryAddress: istiod", "is not an address"),
        ("proxy.istio.io/config", "drainDuration: fast", "is not a duration"),
        ("proxy.istio.io/config", "interceptionMode: redirect", "is not one of"),
        ("proxy.istio.io/overrides", "[]", "should be an object"),
        ("sidecar.istio.io/status", "injected", "is not JSON"),
        ("sidecar.istio.io/status", '{"containers": "web"}', "`containers` should be a list of names"),
        ("sidecar.istio.io/status", '{"prometheus": []}', "`prometheus` should be an object"),
        ("outrigger.dev/proxy", "nginx", "should be one of outrigger, envoy"),
        ("inject.istio.io/templates", "sidecar,unknown", "unknown template 'unknown'"),
        ("inject.istio.io/templates", "", "should name at least one template"),
    ],
)
def test_an_invalid_annotation_refuses_the_pod(name: str, value: str, reason: str) -> None:
    annotations = {name: value}
    if name == "proxy.istio.io/overrides":
        annotations["sidecar.istio.io/status"] = "{}"
    given = pod(annotations=annotations)
    before = copy.deepcopy(given)
    with pytest.raises(InjectionError) as refusal:
        injected(given)
    assert str(refusal.value).startswith(f"annotation {name}: ")
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 600
    assert given == before


@pytest.mark.parametrize(
    ("annotations", "port", "reason"),
    [
        ({"status.sidecar.istio.io/port": "15021"}, 80, "annotation status.sidecar.istio.io/port, or status"),
        ({"status.sidecar.istio.io/port": "15006"}, 80, "15006 is another port of the proxy"),
        ({"status.sidecar.istio.io/port": "8080"}, 8080, "container web: its port 8080 is a port of the"),
        ({"proxy.istio.io/config": "statusPort: 15001"}, 80, "15001 is another port of the proxy"),
        ({"proxy.istio.io/config": "proxyAdminPort: 15020"}, 80, "proxyAdminPort: 15020 is another port"),
        ({"proxy.istio.io/config": "proxyAdminPort: 8080"}, 8080, "container web: its port 8080 is a port"),
        ({}, 15006, "container web: its port 15006 is a port of the proxy"),
    ],
)
def test_a_port_of_the_proxy_that_is_used_twice_refuses_the_pod(
    annotations: dict[str, str], port: int, reason: str
) -> None:
    with pytest.raises(InjectionError) as refusal:
        injected(pod(annotations=annotations, container={"ports": [{"containerPort": port}]}))
    assert reason in str(refusal.value)


def test_a_port_of_udp_can_have_the_number_of_a_port_of_the_proxy() -> None:
    injected(pod(container={"ports": [{"containerPort": 15006, "protocol": "UDP"}]}))


def test_an_invalid_label_or_annotation_of_the_namespace_refuses_the_pod() -> None:
    for key in ("namespace_labels", "namespace_annotations"):
        with pytest.raises(InjectionError, match=r"outrigger\.dev/proxy"):
            injected(pod(), **{key: {"outrigger.dev/proxy": "nginx"}})


@pytest.mark.parametrize(
    ("annotation", "label", "namespace_label", "namespace_annotation", "envoy"),
    [
        ("envoy", "outrigger", "outrigger", "outrigger", True),
        ("outrigger", "envoy", "envoy", "envoy", False),
        ("", "envoy", "outrigger", "outrigger", True),
        ("", "", "envoy", "outrigger", True),
        ("", "", "", "envoy", True),
        ("", "", "", "", False),
    ],
)
def test_the_pod_chooses_its_data_plane_before_the_namespace(
    annotation: str, label: str, namespace_label: str, namespace_annotation: str, envoy: bool
) -> None:
    def chosen(value: str) -> dict[str, str]:
        return {"outrigger.dev/proxy": value} if value else {}

    result = injected(
        pod(annotations=chosen(annotation), labels=chosen(label)),
        namespace_labels=chosen(namespace_label),
        namespace_annotations=chosen(namespace_annotation),
    )
    agents = [c for c in result["spec"]["initContainers"] if c["name"] == "outrigger-agent"]
    assert bool(agents) is envoy


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        (pod(annotations={"sidecar.istio.io/proxyCpu": "1"}), "did you mean sidecar.istio.io/proxyCPU?"),
        (pod(annotations={"sidecar.istio.io/componentLogLevel": "x:y"}), "is not supported and ignored"),
        (pod(annotations={"proxy.istio.io/config": "tracing: {}"}), "the field tracing is not supported"),
        (pod(dnsPolicy="None"), "dnsPolicy is 'None'"),
        (pod(securityContext={"runAsUser": 1337}), "container web: runAsUser 1337 is that of the proxy"),
        (
            pod(
                container={"securityContext": {"runAsGroup": 1337}},
                initContainers=[
                    {"name": "early", "image": "a", "securityContext": {"runAsUser": 1337}},
                    {"name": "outrigger-sidecar", "image": "auto"},
                ],
            ),
            "container web: runAsGroup 1337 is that of the proxy: its outbound connections bypass the proxy",
        ),
        (
            pod(annotations={"proxy.istio.io/config": _DNS, "outrigger.dev/proxy": "envoy"}),
            "DNS is not captured",
        ),
        (
            pod(annotations={"proxy.istio.io/config": f"{_DNS}\ninterceptionMode: NONE"}),
            "DNS is not captured",
        ),
    ],
)
def test_a_setting_without_effect_is_reported(given: dict[str, object], warning: str) -> None:
    [found] = injection(given).warnings
    assert warning in found


@pytest.mark.parametrize(
    ("annotations", "captures"),
    [
        ({"proxy.istio.io/config": _DNS}, True),
        ({}, False),
        ({"proxy.istio.io/config": _DNS, "sidecar.istio.io/interceptionMode": "NONE"}, False),
        ({"proxy.istio.io/config": _DNS, "outrigger.dev/proxy": "envoy"}, False),
    ],
    ids=["on", "off", "no redirection", "Envoy has no resolver"],
)
def test_the_rules_the_sidecar_and_the_control_plane_agree_whether_dns_is_captured(
    annotations: dict[str, str], captures: bool
) -> None:
    spec = injected(pod(annotations=annotations))["spec"]
    containers = {each["name"]: each for each in (*spec["initContainers"], *spec["containers"])}
    variables = {each["name"]: each.get("value") for each in containers["outrigger-sidecar"]["env"]}
    metadata = json.loads(variables["OUTRIGGER_CONFIG_YAML"])["node"]["metadata"]
    assert ("OUTRIGGER_DNS_CAPTURE" in variables) is captures
    assert ("DNS_CAPTURE" in metadata) is captures
    rules = containers.get("outrigger-init", {"args": []})["args"]
    assert ("--capture-dns" in rules) is captures


def test_known_annotations_cause_no_warning() -> None:
    annotations = {
        "sidecar.istio.io/inject": "true",
        "sidecar.istio.io/status": "{}",
        "example.com/other": "",
    }
    assert injection(pod(annotations=annotations)).warnings == ()


@pytest.mark.parametrize(
    ("annotations", "workers"),
    [
        ({}, 2),
        ({"proxy.istio.io/config": "concurrency: 4"}, 4),
        ({"proxy.istio.io/config": "concurrency: 0"}, 0),
        ({"proxy.istio.io/config": "concurrency: 1", "sidecar.istio.io/proxyCPULimit": "8"}, 1),
        ({"sidecar.istio.io/proxyCPULimit": "2500m"}, 3),
        ({"sidecar.istio.io/proxyCPULimit": "100m"}, 1),
        ({"sidecar.istio.io/proxyCPULimit": "0.5"}, 1),
        ({"sidecar.istio.io/proxyCPULimit": "4"}, 4),
        ({"sidecar.istio.io/proxyCPULimit": "3e0"}, 3),
        ({"sidecar.istio.io/proxyCPULimit": "1k"}, 256),
        ({"sidecar.istio.io/proxyCPULimit": "0"}, 2),
        ({"sidecar.istio.io/proxyCPU": "8"}, 2),
    ],
)
def test_the_sidecar_has_the_workers_of_its_proxy_config_or_of_its_cpu_limit(
    annotations: dict[str, str], workers: int
) -> None:
    result = injected(pod(annotations=annotations))
    [proxy] = [c for c in result["spec"]["initContainers"] if c["name"] == "outrigger-sidecar"]
    assert f"--concurrency={workers}" in proxy["args"]
