"""The chart in the real Helm: the same objects as those of `outrigger install`, the same values refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrigger.errors import CommandError
from outrigger.installation.chart import Chart, Release
from outrigger.installation.values import given_values
from tests.support.kubectl import kubectl_environment
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_binaries import HELM
from tests.support.kubernetes_cluster import Cluster
from tests.support.manifests import DEPLOY

CHART = DEPLOY / "charts" / "outrigger"
SYSTEM = "outrigger-system"
EVERYTHING = """
revision: canary
namespace: {create: true}
global: {hub: registry.example.org/mesh, tag: 1.2.3, imagePullPolicy: Always, imagePullSecrets: [{name: key}]}
meshConfig: {trustDomain: example.org, defaultConfig: {concurrency: 2, text: "a <b> & 'c'"}}
controlPlane:
  autoscaling: {enabled: false}
  replicas: 1
  networkPolicy: {enabled: false}
  bindAddress: "::"
  extraArgs: [--workload-cert-ttl=12h]
  env: [{name: A, value: "1"}, {name: B, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
  resources: {limits: {memory: null, cpu: 2}}
  priorityClassName: system-cluster-critical
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: a, operator: Exists}]
  affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
  topologySpreadConstraints: [{maxSkew: 2, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]
  podLabels: {team: mesh}
  podAnnotations: {note: "yes: and: no\\nsecond line"}
  serviceAnnotations: {a: b}
  serviceAccountAnnotations: {c: d}
injection:
  failurePolicy: Ignore
  config: {policy: disabled, templates: {a: "spec:\\n  x: 1\\n"}}
  values: {tag: "7", proxy: {logLevel: debug}}
validation: {failurePolicy: Ignore, namespaceSelector: {matchLabels: {mesh: ours}}}
"""


def helm(*arguments: str | Path, cluster: Cluster | None = None) -> subprocess.CompletedProcess[str]:
    environment = None if cluster is None else dict(kubectl_environment(cluster.kubeconfig))
    command = [str(HELM.path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.fixture(autouse=True)
def _built() -> None:
    if not HELM.path.is_file():
        pytest.skip("Helm is not built: `make cluster-binary` builds it")


@pytest.mark.parametrize(
    ("settings", "file"),
    [
        ([], ""),
        (["revision=canary"], ""),
        (["injection.enabled=false,validation.enabled=false"], ""),
        (["controlPlane.podDisruptionBudget.enabled=false"], ""),
        (["injection.enableNamespacesByDefault=true", "controlPlane.autoscaling.minReplicas=1"], ""),
        (["controlPlane.nodeSelector.kubernetes\\.io/os=linux,controlPlane.extraArgs={a,b}"], ""),
        (["global.tag=null-is-text"], EVERYTHING),
    ],
)
def test_helm_renders_the_same_objects(settings: list[str], file: str, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(file)
    flags = ["-f", values, *(word for setting in settings for word in ("--set", setting))]
    done = helm("template", "outrigger", CHART, "--namespace", SYSTEM, *flags)
    assert done.returncode == 0, done.stderr
    theirs = [each for each in yaml.safe_load_all(done.stdout) if each]
    release = Release(name="outrigger", namespace=SYSTEM, service="Helm")
    ours = Chart().render(release, given_values([values], settings))
    assert by_name(ours) == by_name(theirs)


def by_name(documents: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """With the YAML inside of ConfigMaps as data: it can be written in several ways."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    for document in documents:
        if document["kind"] == "ConfigMap":
            document["data"] = {key: yaml.safe_load(text) for key, text in document["data"].items()}
    assert len(found) == len(documents)
    return found


@pytest.mark.parametrize(
    "setting",
    [
        "controlplane.replicas=2",
        "controlPlane.replicas=two",
        "revision=Canary",
        "injection.failurePolicy=Maybe",
        "global.tag=null",
        "controlPlane.podLabels.a=1",
    ],
)
def test_helm_refuses_the_same_values(setting: str) -> None:
    done = helm("template", "outrigger", CHART, "--set", setting)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    with pytest.raises(CommandError):
        Chart().render(
            Release(name="outrigger", namespace=SYSTEM, service="Helm"), given_values([], [setting])
        )


def test_helm_has_no_complaints_about_the_chart() -> None:
    done = helm("lint", "--strict", CHART)
    assert "[WARNING]" not in done.stdout
    assert done.returncode == 0, done.stdout


async def test_a_real_api_server_accepts_every_object(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    for revision in ("default", "canary"):
        flags = ["--namespace", namespace, "--set", f"revision={revision}", "--dry-run=server"]
        done = helm("install", "outrigger", CHART, *flags, cluster=cluster)
        assert done.returncode == 0, done.stderr
        assert "kubectl label namespace NAMESPACE istio" in done.stdout
