"""Finds the workload that a pod belongs to, from the owner that created the pod."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from controlplane.injection.pod import JsonObject, items, labels_of

_TEMPLATE_HASH: Final = "pod-template-hash"
_ROLLOUT_HASH: Final = "rollouts-pod-template-hash"  # Argo Rollouts
_DEPLOYMENT_CONFIG: Final = "deploymentconfig"  # OpenShift
# The name of a CronJob's Job ends in its scheduled time, in minutes or (older) seconds.
_CRON_JOB: Final = re.compile(r"(.+)-[0-9]{8,10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadOwner:
    """``name`` is empty for a pod whose name is not known yet and that has no owner."""

    name: str
    kind: str
    api_version: str

    def uri(self, namespace: str) -> str:
        """Istio's URI of the owner, in the node's metadata."""
        return f"kubernetes://apis/{self.api_version}/namespaces/{namespace}/{self.kind.lower()}s/{self.name}"


def owner_of(pod: JsonObject) -> WorkloadOwner:
    """Returns the workload, such as the Deployment of a ReplicaSet, or the pod itself."""
    metadata = pod.get("metadata") or {}
    controller = next((ref for ref in items(metadata, "ownerReferences") if ref.get("controller")), None)
    if metadata.get("generateName") and controller is not None:
        return _above(controller, pod)
    name = metadata.get("name") or (metadata.get("generateName") or "").rstrip("-")
    return WorkloadOwner(name=name, kind="Pod", api_version="v1")


def _above(controller: JsonObject, pod: JsonObject) -> WorkloadOwner:
    """Returns the owner of the pod's controller, if the name of the controller contains it."""
    name, kind, api_version = controller["name"], controller["kind"], controller["apiVersion"]
    pod_labels = labels_of(pod)
    if kind == "ReplicaSet":
        for label, above, its_version in (
            (_TEMPLATE_HASH, "Deployment", api_version),
            (_ROLLOUT_HASH, "Rollout", "argoproj.io/v1alpha1"),
        ):
            suffix = f"-{pod_labels.get(label, '')}"
            if len(suffix) > 1 and len(name) > len(suffix) and name.endswith(suffix):
                return WorkloadOwner(name=name.removesuffix(suffix), kind=above, api_version=its_version)
    if kind == "ReplicationController" and pod_labels.get(_DEPLOYMENT_CONFIG):
        return WorkloadOwner(
            name=pod_labels[_DEPLOYMENT_CONFIG], kind="DeploymentConfig", api_version="apps.openshift.io/v1"
        )
    if kind == "Job" and (scheduled := _CRON_JOB.fullmatch(name)):
        return WorkloadOwner(name=scheduled[1], kind="CronJob", api_version=api_version)
    return WorkloadOwner(name=name, kind=kind, api_version=api_version)
