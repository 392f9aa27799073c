"""Objects for a test cluster: those of users, and the statuses of pods that a node's agent would write."""

from __future__ import annotations

from typing import Any

from tests.support.kubernetes_api import KubernetesApi, Resource

NETWORKING = "/apis/networking.istio.io/v1"


def crd(group: str, plural: str, kind: str, *, with_status: bool = False) -> Resource:
    """A kind of the test's own, without a schema."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}} if with_status else {},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def hostname(namespace: str, name: str = "reviews") -> str:
    """The full host name of a service."""
    return f"{name}.{namespace}.svc.cluster.local"


def service(name: str, **spec: Any) -> Resource:
    ports = [{"name": "http", "port": 80, "targetPort": 9080}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports, **spec}}


def virtual_service(name: str, host: str, status: int = 200, **match: Any) -> Resource:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": [host], "http": [{"directResponse": {"status": status}, **match}]},
    }


async def create_node(api: KubernetesApi, name: str, **labels: str) -> None:
    topology = {f"topology.kubernetes.io/{label}": value for label, value in labels.items()}
    await api.create("/api/v1/nodes", {"metadata": {"name": name, "labels": topology}})


async def create_pod(
    api: KubernetesApi,
    namespace: str,
    name: str,
    node: str,
    address: str,
    labels: dict[str, str],
    **fields: Any,
) -> None:
    """A pod that runs, and is ready, as far as its node would tell. ``fields`` are more of its spec."""
    spec = {"nodeName": node, "containers": [{"name": "app", "image": "app"}], **fields}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.create(pods, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    await set_ready(api, namespace, name, address, ready=True)


async def set_ready(api: KubernetesApi, namespace: str, name: str, address: str, *, ready: bool) -> None:
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    await api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})


async def delete_pod(api: KubernetesApi, namespace: str, name: str) -> None:
    """At once: no node's agent says that it has ended."""
    await api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", {"gracePeriodSeconds": 0})
