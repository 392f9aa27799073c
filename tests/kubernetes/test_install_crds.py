"""`outrigger crds --install` against a real API server."""

from __future__ import annotations

from tests.support.control_plane import outrigger
from tests.support.crds import CRDS, condition, install_crds
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster

LABEL = "app.kubernetes.io/part-of"
SIDECARS = f"{CRDS}/sidecars.networking.istio.io"


def installed(cluster: Cluster) -> list[str]:
    done = outrigger("crds", "--install", "--kubeconfig", cluster.kubeconfig)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_missing_crds_are_created_and_served(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.started_here()
    await install_crds(api)
    await api.delete(SIDECARS)

    async def is_created() -> bool:  # the deletion of a CRD takes a while
        return "CustomResourceDefinition sidecars.networking.istio.io created" in installed(cluster)

    await eventually(is_created, "the CRD is created")

    async def is_established() -> bool:
        return condition(await api.get(SIDECARS), "Established") == "True"

    await eventually(is_established, "the CRD is established")


async def test_outriggers_crds_are_updated_only_where_they_differ(
    cluster: Cluster, api: KubernetesApi
) -> None:
    await install_crds(api)
    await api.patch(SIDECARS, {"spec": {"names": {"categories": ["old"]}}})
    assert "CustomResourceDefinition sidecars.networking.istio.io changed" in installed(cluster)
    assert {line.split(maxsplit=2)[2] for line in installed(cluster)} == {"unchanged"}


async def test_a_crd_of_another_product_is_not_changed(cluster: Cluster, api: KubernetesApi) -> None:
    await install_crds(api)
    label = (await api.get(SIDECARS))["metadata"]["labels"][LABEL]
    before = await api.patch(SIDECARS, {"metadata": {"labels": {LABEL: None}}})
    try:
        (said,) = [line for line in installed(cluster) if " sidecars." in line]
        assert said.endswith("unchanged: another product installed it, and it can be used")
        after = await api.get(SIDECARS)
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    finally:
        await api.patch(SIDECARS, {"metadata": {"labels": {LABEL: label}}})


async def test_an_unreachable_cluster_is_one_line() -> None:
    done = outrigger("crds", "--install", "--kubeconfig", "/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("outrigger: the kubeconfig /nowhere cannot be used: ")
    assert len(done.stderr.splitlines()) == 1
