"""A store that follows a real cluster has its pods, services and routes as the cluster decided them."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.status import State
from tests.support.cluster_objects import (
    create_pod,
    delete_pod,
    hostname,
    service,
    set_ready,
    virtual_service,
)
from tests.support.followed_cluster import (
    follower,
    fresh_list,
)
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster

pytestmark = pytest.mark.usefixtures("mesh_kinds")


def healthy(snapshot: MeshSnapshot, namespace: str) -> set[str]:
    endpoints = snapshot.endpoints.get(hostname(namespace), ())
    return {endpoint.address for endpoint in endpoints if endpoint.workload.healthy}


async def test_a_pod_is_an_endpoint_as_the_cluster_decided(
    cluster: Cluster, api: KubernetesApi, namespace: str, node_name: str
) -> None:
    labels = {"app": "reviews", "version": "v1", "security.istio.io/tlsMode": "istio"}
    async with follower(cluster.kubeconfig) as following:
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("reviews"))
        await create_pod(api, namespace, "reviews-1", node_name, "10.9.0.1", labels)
        snapshot = await following.until(lambda world: healthy(world, namespace), "a ready endpoint")
        [endpoint] = snapshot.endpoints[hostname(namespace)]
        assert (endpoint.service_port, endpoint.address, endpoint.port) == ("http", "10.9.0.1", 9080)
        workload = endpoint.workload
        assert (workload.name, workload.service_account) == ("reviews-1", "default")
        assert labels.items() <= workload.labels.items()  # Kubernetes adds the node's topology
        assert workload.mesh_tls
        assert workload.locality == "eu/eu-1"
        assert await fresh_list(cluster.kubeconfig) == following.snapshot()

        await set_ready(api, namespace, "reviews-1", "10.9.0.1", ready=False)
        await following.until(lambda world: not healthy(world, namespace), "no ready endpoint")
        await set_ready(api, namespace, "reviews-1", "10.9.0.1", ready=True)
        await following.until(lambda world: healthy(world, namespace), "the endpoint is ready again")
        zone = {"metadata": {"labels": {"topology.kubernetes.io/zone": "eu-2"}}}
        await api.patch(f"/api/v1/nodes/{node_name}", zone)
        await following.until(
            lambda world: world.endpoints[hostname(namespace)][0].workload.locality == "eu/eu-2",
            "the node's new locality",
        )
        await delete_pod(api, namespace, "reviews-1")
        await following.until(lambda world: hostname(namespace) not in world.endpoints, "no endpoint")


async def test_pods_of_controllers_have_their_owners_names(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    """Before they have an address: no node runs them."""

    def template(**spec: Any) -> dict[str, Any]:
        containers = [{"name": "app", "image": "app"}]
        return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, **spec}}

    selector = {"matchLabels": {"app": "web"}}
    async with follower(cluster.kubeconfig) as following:
        for path, name, spec in (
            ("apps/v1/{}/deployments", "web", {"selector": selector, "template": template()}),
            (
                "apps/v1/{}/statefulsets",
                "db",
                {"selector": selector, "serviceName": "db", "template": template()},
            ),
            ("batch/v1/{}/jobs", "migrate", {"template": template(restartPolicy="Never")}),
            # The name that a CronJob gives to its Jobs.
            ("batch/v1/{}/jobs", "report-28934820", {"template": template(restartPolicy="Never")}),
        ):
            body = {"metadata": {"name": name}, "spec": spec}
            await api.create("/apis/" + path.format(f"namespaces/{namespace}"), body)
        expected = {"web", "db", "migrate", "report"}

        def owners(world: MeshSnapshot) -> set[str]:
            pods = world.known_workloads.pods.values()
            return {pod.owner for pod in pods if pod.namespace == namespace}

        await following.until(lambda world: owners(world) == expected, "all pods are known by their owners")


async def test_a_pod_of_a_headless_service_has_the_host_that_the_cluster_gives_it(
    cluster: Cluster, api: KubernetesApi, namespace: str, node_name: str
) -> None:
    async with follower(cluster.kubeconfig) as following:
        await api.create(f"/api/v1/namespaces/{namespace}/services", service("es", clusterIP="None"))
        for index in range(2):
            name, address = f"es-{index}", f"10.9.1.{index + 1}"
            own = {"hostname": name, "subdomain": "es"}
            await create_pod(api, namespace, name, node_name, address, {"app": "es"}, **own)
        host = hostname(namespace, "es")
        snapshot = await following.until(
            lambda world: len(world.endpoints.get(host, ())) == 2, "two endpoints"
        )
        assert snapshot.services[host].headless
        found = {(endpoint.hostname, endpoint.address) for endpoint in snapshot.endpoints[host]}
        assert found == {("es-0", "10.9.1.1"), ("es-1", "10.9.1.2")}


async def test_a_broken_resource_is_quarantined_with_its_last_good_version_in_force(
    cluster: Cluster, api: KubernetesApi, namespace: str
) -> None:
    collection = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices"
    host = f"a.{namespace}.example.com"
    async with follower(cluster.kubeconfig) as following:

        def statuses_served(world: MeshSnapshot) -> list[int]:
            found = [each for each in world.virtual_services if each.key.namespace == namespace]
            return [route.direct_response.status for each in found for route in each.spec.http]

        await api.create(collection, virtual_service("a", host, 201))
        await following.until(lambda world: statuses_served(world) == [201], "applied")
        # An error that the schema cannot detect, only the control plane's validation.
        broken = virtual_service("a", host, 202, match=[{"uri": {"regex": "("}}])
        await api.patch(f"{collection}/a", {"spec": broken["spec"]})

        async def quarantined() -> bool:
            return following.status_of("VirtualService", namespace, "a").state is State.QUARANTINED

        await eventually(quarantined, "quarantined")
        status = following.status_of("VirtualService", namespace, "a")
        (reason,) = status.reasons
        assert reason.startswith("spec.http[0].match[0].uri.regex: ")
        assert statuses_served(following.snapshot()) == [201]
        await api.patch(f"{collection}/a", {"spec": virtual_service("a", "b", 202)["spec"]})
        await following.until(lambda world: statuses_served(world) == [202], "applied anew")
        await api.delete(f"{collection}/a")
        await following.until(lambda world: not statuses_served(world), "removed")
