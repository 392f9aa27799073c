"""`outrigger check` as a subprocess, on a real API server whose node runs the control plane."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from outrigger.installation.chart import Chart
from tests.support import kubernetes_cluster
from tests.support.cluster_objects import create_pod, virtual_service
from tests.support.control_plane import outrigger
from tests.support.kubernetes_api import KubernetesApi, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import require_node, running_node
from tests.support.rights import with_token
from tests.support.service_account_tokens import API_AUDIENCE, request_token

SYSTEM = "outrigger-system"
IMAGES = {f"docker.io/outrigger/controlplane:{Chart().version}": [sys.executable, "-m", "controlplane"]}
ONE_REPLICA = "controlPlane.autoscaling.enabled=false,controlPlane.replicas=1"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
VIRTUAL_SERVICES = "/apis/networking.istio.io/v1/namespaces/default/virtualservices"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Its own, with a node."""
    require_node()
    with kubernetes_cluster.cluster() as running:
        running.started_here()
        with running_node(running.kubeconfig, IMAGES, back_off_s=1.0):
            yield running


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api(cluster.kubeconfig) as administrator:
        yield administrator


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    done = outrigger("install", "--set", ONE_REPLICA, "--kubeconfig", cluster.kubeconfig)
    assert done.returncode == 0, done.stdout + done.stderr
    return cluster


def check(cluster: Cluster, *flags: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    return outrigger("check", *flags, "--kubeconfig", kubeconfig or cluster.kubeconfig)


def findings(cluster: Cluster, *flags: str, state: str) -> dict[str, list[str]]:
    """The messages with their subjects, by check."""
    done = check(cluster, "--output", "json", *flags)
    found: dict[str, list[str]] = defaultdict(list)
    for each in json.loads(done.stdout):
        if each["state"] == state:
            found[each["check"]].append(f"{each['subject']}: {each['message']}")
    assert done.returncode == (1 if state == "problem" and found else done.returncode)
    return found


pytestmark = pytest.mark.needs_node


async def test_an_empty_cluster_can_have_a_mesh(cluster: Cluster) -> None:
    done = check(cluster, "--pre")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       api-server   v1.")
    assert (
        "warning  crds         virtualservices.networking.istio.io: missing: outrigger crds --install"
        in lines
    )
    assert "ok       conflicts    no other product injects the same pods" in lines
    expected = "ok       permissions  you may create, change and delete all objects of an installation"
    assert expected in lines
    assert "\x1b" not in done.stdout


async def test_missing_permissions_are_problems(cluster: Cluster, api: KubernetesApi, tmp_path: Path) -> None:
    token = await request_token(api, "default", audience=API_AUDIENCE)
    done = check(cluster, "--pre", kubeconfig=with_token(cluster.kubeconfig, token, tmp_path))
    assert done.returncode == 1
    assert f"deployments in {SYSTEM}: you may not get, create, patch, delete" in done.stdout
    assert "warning  crds         cannot be checked: 403: " in done.stdout


async def test_a_working_mesh_has_no_problem(installed: Cluster) -> None:
    done = check(installed)
    assert done.returncode == 0, done.stdout
    for message in (
        f"{SYSTEM}/outrigger-controlplane: 1 of 1 pods are ready",
        "virtualservices.networking.istio.io: installed by Outrigger, serves v1, v1beta1, v1alpha3",
        "MutatingWebhookConfiguration outrigger-sidecar-injector: the API server calls it, and it injects",
        "ValidatingWebhookConfiguration outrigger-validator: the API server calls it",
        "0 are connected and synchronised",
        "every pod that a label selects has a sidecar",
        "the root (",
        "the signing certificate in Secret outrigger-system/outrigger-ca-secret (",
        "all 0 are in force",
    ):
        assert message in done.stdout, done.stdout


async def test_a_bundle_that_was_removed_is_a_problem(installed: Cluster, api: KubernetesApi) -> None:
    """With one that the control plane of another revision would write."""
    path = f"{ADMISSION}/validatingwebhookconfigurations/outrigger-validator"
    label = {"metadata": {"labels": {"istio.io/rev": "other"}}}
    webhooks = (await api.get(path))["webhooks"]
    await api.patch(path, label)
    for webhook in webhooks:
        webhook["clientConfig"]["caBundle"] = None
    await api.patch(path, {"webhooks": webhooks})
    try:
        found = findings(installed, state="problem")["webhooks"]
        first, _, _ = found
        assert first == (
            "ValidatingWebhookConfiguration outrigger-validator: rev.validation.outrigger.dev has no "
            "caBundle: the control plane has not written it"
        )
    finally:
        await api.patch(path, {"metadata": {"labels": {"istio.io/rev": "default"}}})

    async def is_repaired() -> bool:
        return all(each["clientConfig"].get("caBundle") for each in (await api.get(path))["webhooks"])

    await eventually(is_repaired, "the control plane writes its bundle again")


async def test_an_unmeshed_pod_and_a_resource_that_is_not_in_force_are_problems(
    installed: Cluster, api: KubernetesApi
) -> None:
    await create_pod(api, "default", "early", "no-node", "10.9.9.9", {"app": "early"})
    labels = {"istio-injection": "enabled"}
    await api.patch("/api/v1/namespaces/default", {"metadata": {"labels": labels}})
    for name in ("first", "second"):
        await api.create(VIRTUAL_SERVICES, virtual_service(name, "same.example.com"))
    try:

        async def are_found() -> dict[str, list[str]] | None:
            found = findings(installed, state="problem")
            return found if found.keys() >= {"pods", "resources"} else None

        found = await eventually(are_found, "the problems are found")
        (pod,) = found["pods"]
        assert pod.startswith("default/early: has no sidecar, although a label asks for one")
        assert found["resources"][0].startswith("VirtualService default/second: Conflicted: ")
    finally:
        for name in ("first", "second"):
            await api.delete(f"{VIRTUAL_SERVICES}/{name}")
        await api.patch("/api/v1/namespaces/default", {"metadata": {"labels": {"istio-injection": None}}})
        await api.delete("/api/v1/namespaces/default/pods/early", {"gracePeriodSeconds": 0})


async def test_nothing_installed_is_a_problem(installed: Cluster) -> None:
    found = findings(installed, "--revision", "canary", state="problem")
    (missing,) = found["control-plane"]
    assert missing == (f"{SYSTEM}/outrigger-controlplane-canary: none of 0 pods is ready: is it installed?")


def test_a_wrong_option_is_a_usage_error(cluster: Cluster) -> None:
    assert check(cluster, "--output", "xml").returncode == 2
