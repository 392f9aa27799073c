"""Kubernetes objects as documents: their paths in the API, their names in messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Document = dict[str, Any]

_LABEL: Final = ("app.kubernetes.io/part-of", "outrigger")


@dataclass(frozen=True, slots=True)
class _Resource:
    plural: str
    namespaced: bool = True


# The kinds of the chart, in the order in which they are created: an object comes after those that it needs
# (Helm's kind_sorter.go).
_RESOURCES: Final[Mapping[str, _Resource]] = {
    "Namespace": _Resource("namespaces", namespaced=False),
    "NetworkPolicy": _Resource("networkpolicies"),
    "PodDisruptionBudget": _Resource("poddisruptionbudgets"),
    "ServiceAccount": _Resource("serviceaccounts"),
    "Secret": _Resource("secrets"),
    "ConfigMap": _Resource("configmaps"),
    "CustomResourceDefinition": _Resource("customresourcedefinitions", namespaced=False),
    "ClusterRole": _Resource("clusterroles", namespaced=False),
    "ClusterRoleBinding": _Resource("clusterrolebindings", namespaced=False),
    "Role": _Resource("roles"),
    "RoleBinding": _Resource("rolebindings"),
    "Service": _Resource("services"),
    "Deployment": _Resource("deployments"),
    "HorizontalPodAutoscaler": _Resource("horizontalpodautoscalers"),
    "Lease": _Resource("leases"),
    "MutatingWebhookConfiguration": _Resource("mutatingwebhookconfigurations", namespaced=False),
    "ValidatingWebhookConfiguration": _Resource("validatingwebhookconfigurations", namespaced=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReference:
    """``namespace`` is empty for an object that has none."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str

    @property
    def path(self) -> str:
        return f"{collection(self.api_version, self.kind, self.namespace)}/{self.name}"

    @property
    def order(self) -> int:
        """Objects with a lower one are created first."""
        return list(_RESOURCES).index(self.kind)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def reference(document: Document) -> ObjectReference:
    metadata = document["metadata"]
    return ObjectReference(
        api_version=document["apiVersion"],
        kind=document["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
    )


def collection(api_version: str, kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind, in a namespace if one is given."""
    group = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    resource = _RESOURCES[kind]
    within = f"/namespaces/{namespace}" if resource.namespaced and namespace else ""
    return f"{group}{within}/{resource.plural}"


def is_ours(document: Document) -> bool:
    """Whether Outrigger created the object, and so may remove it."""
    label, value = _LABEL
    labels = document["metadata"].get("labels") or {}
    return bool(labels.get(label) == value)
