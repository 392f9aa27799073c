from __future__ import annotations

from typing import Any

import pytest

from controlplane.injection.owners import owner_of
from tests.support.injection import pod


def owned(
    kind: str, name: str, *, controller: bool = True, api_version: str = "apps/v1", **labels: str
) -> Any:
    reference = {"apiVersion": api_version, "kind": kind, "name": name, "controller": controller}
    metadata = {"name": None, "generateName": f"{name}-", "ownerReferences": [reference]}
    return pod(metadata=metadata, labels={key.replace("_", "-"): value for key, value in labels.items()})


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        (
            owned("ReplicaSet", "web-5d8", pod_template_hash="5d8"),
            "apis/apps/v1/namespaces/n/deployments/web",
        ),
        (owned("ReplicaSet", "web", pod_template_hash="5d8"), "apis/apps/v1/namespaces/n/replicasets/web"),
        (owned("ReplicaSet", "-5d8", pod_template_hash="5d8"), "apis/apps/v1/namespaces/n/replicasets/-5d8"),
        (owned("ReplicaSet", "web-5d8"), "apis/apps/v1/namespaces/n/replicasets/web-5d8"),
        (
            owned("ReplicaSet", "web-6b7", rollouts_pod_template_hash="6b7"),
            "apis/argoproj.io/v1alpha1/namespaces/n/rollouts/web",
        ),
        (
            owned("ReplicationController", "web-3", api_version="v1", deploymentconfig="web"),
            "apis/apps.openshift.io/v1/namespaces/n/deploymentconfigs/web",
        ),
        (
            owned("ReplicationController", "web-3", api_version="v1"),
            "apis/v1/namespaces/n/replicationcontrollers/web-3",
        ),
        (
            owned("Job", "nightly-28012345", api_version="batch/v1"),
            "apis/batch/v1/namespaces/n/cronjobs/nightly",
        ),
        (owned("Job", "run-2026", api_version="batch/v1"), "apis/batch/v1/namespaces/n/jobs/run-2026"),
        (owned("StatefulSet", "db"), "apis/apps/v1/namespaces/n/statefulsets/db"),
        (owned("ReplicaSet", "web-5d8", controller=False), "apis/v1/namespaces/n/pods/web-5d8"),
        (pod(), "apis/v1/namespaces/n/pods/web"),
    ],
)
def test_the_owner_of_a_pod_is_the_workload_that_a_user_has_created(given: Any, uri: str) -> None:
    assert owner_of(given).uri("n") == f"kubernetes://{uri}"


def test_a_controller_of_a_pod_with_a_name_of_its_own_is_not_its_workload() -> None:
    reference = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "controller": True}
    assert owner_of(pod(metadata={"ownerReferences": [reference]})).name == "web"
