"""`outrigger install`, `upgrade` and `uninstall` as subprocesses, with a real API server and a node that runs
the control plane."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from outrigger.installation.chart import Chart
from tests.support import kubernetes_cluster
from tests.support.cluster_contents import contents
from tests.support.cluster_objects import crd
from tests.support.control_plane import outrigger
from tests.support.crds import CRDS
from tests.support.kubernetes_api import KubernetesApi, Resource, eventually, kubernetes_api
from tests.support.kubernetes_cluster import Cluster
from tests.support.node import running_node
from tests.support.rights import with_token
from tests.support.service_account_tokens import API_AUDIENCE, request_token

SYSTEM = "outrigger-system"
NAME = "outrigger-controlplane"
CA_SECRET = f"/api/v1/namespaces/{SYSTEM}/secrets/outrigger-ca-secret"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/{NAME}"
RELEASE = f"/api/v1/namespaces/{SYSTEM}/configmaps/outrigger-release"
SIDECARS = f"{CRDS}/sidecars.networking.istio.io"
INJECTORS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
IMAGES = {f"docker.io/outrigger/controlplane:{Chart().version}": [sys.executable, "-m", "controlplane"]}
NOTES = f"The control plane of Outrigger {Chart().version} runs in the namespace {SYSTEM}."
ONE_REPLICA = ["--set", "controlPlane.autoscaling.enabled=false,controlPlane.replicas=1"]
NO_WEBHOOKS = ["--set", "injection.enabled=false,validation.enabled=false"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Its own, in which nothing was installed."""
    with kubernetes_cluster.cluster() as running:
        running.started_here()
        yield running


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[KubernetesApi]:
    async with kubernetes_api(cluster.kubeconfig) as administrator:
        yield administrator


async def settled(api: KubernetesApi) -> set[str]:
    """Once the controllers have created what every namespace has."""

    async def look() -> set[str] | None:
        found = await contents(api)
        namespaces = {name.split("/")[1] for name in found if name.startswith("namespaces ")}
        accounts = {f"serviceaccounts {namespace}/default" for namespace in namespaces}
        roots = {f"configmaps {namespace}/kube-root-ca.crt" for namespace in namespaces}
        return found if accounts | roots <= found else None

    return await eventually(look, "the controllers have filled the namespaces")


def run(cluster: Cluster, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = outrigger(*arguments, "--kubeconfig", cluster.kubeconfig)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


def lines_of(cluster: Cluster, *arguments: str | Path) -> list[str]:
    return run(cluster, *arguments).stdout.splitlines()


@pytest.mark.needs_node
async def test_a_whole_life(cluster: Cluster, api: KubernetesApi) -> None:
    """From a cluster that has a CRD of another mesh back to the same cluster."""
    with running_node(cluster.kubeconfig, IMAGES, back_off_s=1.0):
        await api.create(CRDS, crd("networking.istio.io", "sidecars", "Sidecar", with_status=True))
        theirs = (await api.get(SIDECARS))["metadata"]["generation"]
        before = await settled(api)

        said = lines_of(cluster, "install", *ONE_REPLICA, "--timeout", "60s")
        assert f"Deployment {SYSTEM}/{NAME} created" in said
        assert f"Deployment {SYSTEM}/{NAME}: 0 of 1 replicas are ready" in said
        assert (await api.get(DEPLOYMENT))["status"]["availableReplicas"] == 1
        key = (await api.get(CA_SECRET))["data"]

        again = lines_of(cluster, "install")
        unchanged = ("unchanged", "unchanged: another product installed it, and it can be used")
        assert all(line.endswith(unchanged) for line in again[: again.index(NOTES)]), again

        changed = lines_of(cluster, "upgrade", "--set", "controlPlane.networkPolicy.enabled=false")
        assert f"NetworkPolicy {SYSTEM}/{NAME} deleted" in changed
        deployment = await api.get(DEPLOYMENT)
        assert deployment["spec"]["replicas"] == 1, "the value of the installation was lost"

        removed = lines_of(cluster, "uninstall")
        kept = f"Secret {SYSTEM}/outrigger-ca-secret kept: it has the key of the mesh's CA"
        assert f"{kept} (--purge deletes it)" in removed
        left = await contents(api) - before
        assert {name for name in left if not name.startswith("customresourcedefinitions ")} == {
            f"namespaces /{SYSTEM}",
            f"secrets {SYSTEM}/outrigger-ca-secret",
            f"configmaps {SYSTEM}/kube-root-ca.crt",
            f"serviceaccounts {SYSTEM}/default",
        }

        run(cluster, "install", *ONE_REPLICA, "--timeout", "60s")
        assert (await api.get(CA_SECRET))["data"] == key
        purged = lines_of(cluster, "uninstall", "--purge")
        assert f"Namespace {SYSTEM} deleted" in purged
        assert await settled(api) == before
        assert (await api.get(SIDECARS))["metadata"]["generation"] == theirs
        await api.delete(SIDECARS)


@pytest.mark.needs_node
async def test_the_reason_is_shown_why_it_is_not_ready(cluster: Cluster) -> None:
    with running_node(cluster.kubeconfig, IMAGES, back_off_s=1.0):
        flags = ["--set", "global.tag=missing", *ONE_REPLICA, *NO_WEBHOOKS, "--timeout", "4s"]
        done = run(cluster, "install", *flags, check=False)
        assert done.returncode == 1
        missing = f"Deployment {SYSTEM}/{NAME}: 0 of 1 replicas are ready: pod {NAME}-"
        assert done.stderr.startswith(f"outrigger: not ready within 4 s: {missing}")
        assert "docker.io/outrigger/controlplane:missing" in done.stderr
        run(cluster, "uninstall")


async def test_the_namespace_of_a_user_is_kept(cluster: Cluster, api: KubernetesApi) -> None:
    await api.create("/api/v1/namespaces", {"metadata": {"name": "mesh"}})
    before = await settled(api)
    run(cluster, "install", "--no-wait", "--namespace", "mesh")
    refused = run(cluster, "install", "--no-wait", check=False)
    assert "the revision default is installed in the namespace mesh" in refused.stderr
    refused = run(cluster, "install", "--no-wait", "--revision", "canary", check=False)
    assert refused.stderr == (
        "outrigger: the revision default is installed in the namespace mesh, which has the CA of the mesh: "
        "use --namespace mesh\n"
    )
    refused = run(cluster, "uninstall", "--purge", check=False)
    assert refused.stderr.endswith("installed: default (namespace mesh)\n")
    run(cluster, "uninstall", "--namespace", "mesh")
    after = await settled(api)
    assert before <= after
    assert [name for name in after - before if not name.startswith("customresourcedefinitions ")] == []


async def test_webhooks_that_outlive_the_namespace_are_removed(cluster: Cluster, api: KubernetesApi) -> None:
    """They would refuse all pods of labelled namespaces for ever."""
    run(cluster, "install", "--no-wait")
    namespace = f"/api/v1/namespaces/{SYSTEM}"
    await api.delete(namespace)

    async def gone() -> bool:
        return f"namespaces /{SYSTEM}" not in await contents(api)

    await eventually(gone, "the namespace is deleted")
    said = lines_of(cluster, "uninstall")
    assert said[:2] == [
        "ValidatingWebhookConfiguration outrigger-validator deleted",
        "MutatingWebhookConfiguration outrigger-sidecar-injector deleted",
    ]
    assert not [name for name in await contents(api) if "outrigger" in name]


async def test_a_revision_of_helm_is_not_purged(cluster: Cluster, api: KubernetesApi) -> None:
    """Helm's installation has no record."""
    await api.create("/api/v1/namespaces", {"metadata": {"name": "by-helm"}})
    run(cluster, "install", "--no-wait", "--namespace", "by-helm", "--revision", "theirs")
    await api.delete("/api/v1/namespaces/by-helm/configmaps/outrigger-release-theirs")
    crds = {name for name in await contents(api) if name.startswith("customresourcedefinitions ")}

    refused = run(cluster, "uninstall", "--namespace", "by-helm", "--revision", "theirs", check=False)
    assert "if Helm has installed it, use helm uninstall" in refused.stderr
    refused = run(cluster, "uninstall", "--purge", check=False)
    assert refused.stderr.endswith("installed: theirs (namespace by-helm)\n")
    assert crds <= await contents(api)

    run(cluster, "install", "--no-wait", "--namespace", "by-helm", "--revision", "theirs")
    run(cluster, "uninstall", "--namespace", "by-helm", "--revision", "theirs")


@pytest.fixture
async def installed(cluster: Cluster, api: KubernetesApi) -> set[str]:
    """The contents of a cluster in which it is installed, with the values of the chart. No node runs it."""
    run(cluster, "install", "--no-wait", "--reset-values")
    return await settled(api)


async def test_a_dry_run_changes_nothing(cluster: Cluster, api: KubernetesApi, installed: set[str]) -> None:
    said = lines_of(cluster, "install", "--dry-run", "--revision", "canary")
    assert f"Deployment {SYSTEM}/{NAME}-canary would be created" in said
    said = lines_of(cluster, "upgrade", "--dry-run", "--set", "injection.timeoutSeconds=5")
    (change,) = [line for line in said if line.startswith("MutatingWebhookConfiguration")]
    assert "would change: webhooks[0].timeoutSeconds: 10 -> 5, webhooks[1].timeoutSeconds: 10 -> 5" in change
    said = lines_of(cluster, "upgrade", "--dry-run", "--set", "injection.enabled=false")
    assert "MutatingWebhookConfiguration outrigger-sidecar-injector would be deleted" in said
    said = lines_of(cluster, "uninstall", "--dry-run")
    assert f"Deployment {SYSTEM}/{NAME} would be deleted" in said
    assert await contents(api) == installed


@pytest.mark.usefixtures("installed")
async def test_an_upgrade_keeps_the_ca_bundle(cluster: Cluster, api: KubernetesApi) -> None:
    path = f"{INJECTORS}/outrigger-sidecar-injector"
    webhooks = (await api.get(path))["webhooks"]
    for webhook in webhooks:
        webhook["clientConfig"]["caBundle"] = "Q0E="
    await api.patch(path, {"webhooks": webhooks})
    run(cluster, "upgrade", "--no-wait", "--set", "injection.timeoutSeconds=5")
    webhooks = (await api.get(path))["webhooks"]
    assert {each["clientConfig"]["caBundle"] for each in webhooks} == {"Q0E="}
    assert {each["timeoutSeconds"] for each in webhooks} == {5}


async def test_two_revisions_share_what_the_mesh_has_once(
    cluster: Cluster, api: KubernetesApi, installed: set[str]
) -> None:
    run(cluster, "install", "--revision", "canary", "--no-wait")
    assert [name for name in await contents(api) - installed if "canary" not in name] == []
    refused = run(cluster, "uninstall", "--revision", "canary", "--purge", check=False)
    assert refused.stderr == (
        "outrigger: --purge removes what all revisions share: uninstall default first, or leave it out\n"
    )
    run(cluster, "uninstall", "--revision", "canary")
    assert await contents(api) == installed


async def test_another_injector_for_the_same_label_is_a_warning(cluster: Cluster, api: KubernetesApi) -> None:
    await api.create(INJECTORS, istio_injector())
    try:
        done = lines_of(cluster, "install", "--dry-run")
        (warning,) = [line for line in done if line.startswith("warning: ")]
        assert warning.startswith(
            "warning: MutatingWebhookConfiguration istio-sidecar-injector also injects pods in namespaces "
            "with istio-injection=enabled: use another revision"
        )
        done = lines_of(cluster, "install", "--dry-run", "--revision", "canary")
        assert not [line for line in done if line.startswith("warning: ")]
    finally:
        await api.delete(f"{INJECTORS}/istio-sidecar-injector")


def istio_injector() -> Resource:
    webhook = {
        "name": "namespace.sidecar-injector.istio.io",
        "clientConfig": {"url": "https://127.0.0.1:1/inject"},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "rules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        ],
        "namespaceSelector": {"matchLabels": {"istio-injection": "enabled"}},
    }
    return {"metadata": {"name": "istio-sidecar-injector"}, "webhooks": [webhook]}


async def test_missing_permissions_are_named_all_at_once(
    cluster: Cluster, api: KubernetesApi, installed: set[str], tmp_path: Path
) -> None:
    """No webhook is created for a control plane that is incomplete."""
    run(cluster, "upgrade", "--no-wait", *NO_WEBHOOKS)
    await grant_everything_but(api, "deployments", "services")
    token = await request_token(api, SYSTEM, audience=API_AUDIENCE)
    limited = with_token(cluster.kubeconfig, token, tmp_path)
    try:
        done = outrigger("upgrade", "--set", "injection.enabled=true", "--kubeconfig", limited)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        for kind in ("Service", "Deployment"):
            assert f"{kind} {SYSTEM}/{NAME}: 403: " in done.stderr
        user = f"system:serviceaccount:{SYSTEM}:default"
        assert f'User "{user}" cannot patch resource "deployments" in API group "apps"' in done.stderr
        assert not [name for name in await contents(api) if name.startswith("mutatingwebhook")]
    finally:
        await api.delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/limited")
        await api.delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/limited")


async def grant_everything_but(api: KubernetesApi, *resources: str) -> None:
    """To the account `default`: everything may be read, and nothing of these may be written."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    everything = [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "escalate", "bind"]},
        *(
            {"apiGroups": [group], "resources": [name], "verbs": ["*"]}
            for group, name in await writable(api)
            if name not in resources
        ),
    ]
    await api.create(f"{rbac}/clusterroles", {"metadata": {"name": "limited"}, "rules": everything})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "limited"}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": SYSTEM}
    binding = {"metadata": {"name": "limited"}, "roleRef": role, "subjects": [subject]}
    await api.create(f"{rbac}/clusterrolebindings", binding)


async def writable(api: KubernetesApi) -> list[tuple[str, str]]:
    """The group and the name of each resource."""
    groups = [each["preferredVersion"]["groupVersion"] for each in (await api.get("/apis"))["groups"]]
    paths = {"/api/v1": "", **{f"/apis/{each}": each.rpartition("/")[0] for each in groups}}
    return [
        (group, resource["name"])
        for path, group in paths.items()
        for resource in (await api.get(path))["resources"]
    ]


@pytest.mark.usefixtures("installed")
async def test_a_downgrade_is_refused(cluster: Cluster, api: KubernetesApi) -> None:
    await api.patch(RELEASE, {"data": {"version": "99.0.0"}})
    refused = run(cluster, "upgrade", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("outrigger: version 99.0.0 is installed, and this command is ")
    await api.patch(RELEASE, {"data": {"version": Chart().version}})


@pytest.mark.usefixtures("installed")
async def test_an_installation_of_helm_is_left_to_helm(cluster: Cluster, api: KubernetesApi) -> None:
    binding = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{NAME}"
    await api.patch(binding, {"metadata": {"annotations": {"meta.helm.sh/release-name": "mesh"}}})
    refused = run(cluster, "upgrade", check=False)
    assert refused.stderr == "outrigger: Helm has installed the revision default: use helm upgrade mesh\n"
    await api.patch(binding, {"metadata": {"annotations": None}})


def test_nothing_can_be_upgraded_or_removed_that_is_not_installed(cluster: Cluster) -> None:
    for command in ("upgrade", "uninstall"):
        refused = run(cluster, command, "--revision", "canary", check=False)
        assert refused.returncode == 1
        where = f"the revision canary is not installed in the namespace {SYSTEM}"
        assert refused.stderr.startswith(f"outrigger: {where}")


def test_an_unreachable_cluster_is_one_line(tmp_path: Path, cluster: Cluster) -> None:
    away = tmp_path / "kubeconfig"
    away.write_text(cluster.kubeconfig.read_text().replace("https://127.0.0.1:", "https://127.0.0.1:1"))
    for command in ("install", "upgrade", "uninstall"):
        done = outrigger(command, "--kubeconfig", away)
        assert done.returncode == 1
        assert done.stderr.startswith("outrigger: the API server cannot be reached: https://127.0.0.1:1")
        assert len(done.stderr.splitlines()) == 1
