"""The endpoints that result from Pods, Nodes and EndpointSlices, seen in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.kubernetes.list_watch import Changes
from controlplane.model.service import ServiceEndpoint
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.model.store import Store
from controlplane.sources.kubernetes_objects import pod_owner
from controlplane.sources.kubernetes_workloads import WorkloadJoin

HOST = "reviews.default.svc.cluster.local"
LABELS = {"app": "reviews", "security.istio.io/tlsMode": "istio"}


def pod(**changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "a", "namespace": "default", "uid": "1", "labels": LABELS},
        "spec": {"nodeName": "n", "serviceAccountName": "sa", "containers": [{"name": "app"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
        **changes,
    }


def node(**labels: str) -> dict[str, Any]:
    topology = {f"topology.kubernetes.io/{label}": value for label, value in labels.items()}
    return {"metadata": {"name": "n", "labels": topology}}


def endpoint_slice(name: str = "reviews-1", *, ready: bool | None = True, uid: str = "1") -> dict[str, Any]:
    endpoint = {
        "addresses": ["10.0.0.1"],
        "conditions": {"ready": ready},
        "nodeName": "n",
        "targetRef": {"kind": "Pod", "name": "a", "uid": uid},
    }
    labels = {"kubernetes.io/service-name": "reviews"}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "port": 9080, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
        "endpoints": [endpoint],
    }


class World:
    def __init__(self) -> None:
        self.store = Store(KINDS)
        self.join = WorkloadJoin(self.store, "cluster.local")
        ports = [{"name": "http", "port": 80, "targetPort": 1}]
        self.apply_service({"selector": {"app": "reviews"}, "ports": ports})

    def apply_service(self, spec: dict[str, Any]) -> None:
        document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "reviews"}, "spec": spec}
        key = ResourceKey(kind="Service", namespace="default", name="reviews")
        self.store.apply(key, KINDS.parse(document), Origin(file="Kubernetes"))

    def endpoints(self) -> tuple[ServiceEndpoint, ...]:
        snapshot, _ = self.store.build()
        return snapshot.endpoints.get(HOST, ())

    def endpoint(self) -> ServiceEndpoint:
        [found] = self.endpoints()
        return found


def present(document: dict[str, Any]) -> Changes:
    return Changes(present=(document,))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_in_which_they_are_seen_does_not_matter(order: tuple[int, ...]) -> None:
    world = World()
    steps: list[Callable[[], None]] = [
        lambda: world.join.take_nodes(present(node(region="eu", zone="eu-1"))),
        lambda: world.join.take_pods(present(pod())),
        lambda: world.join.take_slices(present(endpoint_slice())),
    ]
    for step in order:
        steps[step]()
    endpoint = world.endpoint()
    assert (endpoint.service_port, endpoint.address, endpoint.port) == ("http", "10.0.0.1", 9080)
    assert (endpoint.workload.service_account, endpoint.workload.locality) == ("sa", "eu/eu-1")
    assert endpoint.workload.mesh_tls
    assert endpoint.workload.healthy


def test_an_endpoint_waits_for_its_pod_and_goes_with_it() -> None:
    world = World()
    world.join.take_slices(present(endpoint_slice()))
    assert not world.endpoints()
    world.join.take_pods(present(pod()))
    assert world.endpoints()
    world.join.take_pods(Changes(gone=(("default", "a"),)))
    assert not world.endpoints()


def test_an_endpoint_of_an_earlier_pod_with_the_same_name_is_ignored() -> None:
    world = World()
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(endpoint_slice(uid="0")))
    assert not world.endpoints()


@pytest.mark.parametrize(("ready", "healthy"), [(True, True), (False, False), (None, True)])
def test_an_endpoint_is_ready_by_its_slice(ready: bool | None, healthy: bool) -> None:
    world = World()
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(endpoint_slice(ready=ready)))
    assert world.endpoint().workload.healthy is healthy


def test_a_pod_of_a_stateful_set_has_a_host_of_its_own() -> None:
    world = World()
    document = endpoint_slice()
    document["endpoints"][0]["hostname"] = "reviews-0"
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(document))
    assert world.endpoint().hostname == "reviews-0"


def test_an_endpoint_in_two_slices_counts_once() -> None:
    world = World()
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(endpoint_slice("reviews-1", ready=False)))
    world.join.take_slices(present(endpoint_slice("reviews-2")))
    assert world.endpoint().workload.healthy
    world.join.take_slices(Changes(gone=(("default", "reviews-2"),)))
    assert not world.endpoint().workload.healthy


def test_a_pod_has_a_sidecar_by_its_container_too() -> None:
    world = World()
    containers = {"containers": [{"name": "app"}], "initContainers": [{"name": "outrigger-sidecar"}]}
    metadata = {"name": "a", "namespace": "default", "uid": "1"}
    world.join.take_pods(present(pod(metadata=metadata, spec=containers)))
    world.join.take_slices(present(endpoint_slice()))
    assert world.endpoint().workload.mesh_tls


def test_an_unchanged_object_causes_no_build() -> None:
    world = World()
    world.join.take_pods(present(pod()))
    before, _ = world.store.build()
    world.join.take_pods(present(pod()))
    after, _ = world.store.build()
    assert after is before


def test_a_pod_that_has_ended_is_not_a_workload() -> None:
    world = World()
    world.join.take_pods(present(pod()))
    assert world.store.build()[0].workloads
    world.join.take_pods(present(pod(status={"phase": "Succeeded", "podIP": "10.0.0.1"})))
    assert not world.store.build()[0].workloads


def test_an_irrelevant_status_change_rebuilds_no_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's slices have many endpoints: joining them for each probe of a pod would take milliseconds."""
    world = World()
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(endpoint_slice()))
    observed: list[ResourceKey] = []
    monkeypatch.setattr(world.store, "observe", lambda key, _: observed.append(key))
    status = pod()["status"] | {"containerStatuses": [{"restartCount": 1}]}
    world.join.take_pods(present(pod(status=status)))
    again = endpoint_slice()
    again["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": "later"}
    world.join.take_slices(present(again))
    assert not observed


@pytest.mark.parametrize("target", [{"name": "a"}, {"name": "a", "namespace": "default"}])
def test_an_endpoint_made_by_hand_may_name_its_pod_without_a_uid(target: dict[str, str]) -> None:
    world = World()
    written = endpoint_slice()
    written["endpoints"][0]["targetRef"] = {"kind": "Pod", **target}
    world.join.take_slices(present(written))
    world.join.take_pods(present(pod()))
    assert world.endpoint().workload.service_account == "sa"


def test_a_manual_endpoint_can_refer_to_a_pod_of_another_namespace() -> None:
    world = World()
    metadata = {"name": "a", "namespace": "other", "uid": "1", "labels": LABELS}
    world.join.take_pods(present(pod(metadata=metadata)))
    written = endpoint_slice()
    written["endpoints"][0]["targetRef"]["namespace"] = "other"
    world.join.take_slices(present(written))
    assert (world.endpoint().workload.namespace, world.endpoint().workload.mesh_tls) == ("other", True)
    world.join.take_pods(Changes(gone=(("other", "a"),)))
    assert not world.endpoints()


@pytest.mark.parametrize("node_first", [True, False])
def test_an_endpoint_without_a_pod_has_its_nodes_locality_in_any_order(node_first: bool) -> None:
    world = World()
    written = endpoint_slice()
    del written["endpoints"][0]["targetRef"]
    steps: list[Callable[[], None]] = [
        lambda: world.join.take_nodes(present(node(region="eu", zone="eu-1"))),
        lambda: world.join.take_slices(present(written)),
    ]
    for step in steps if node_first else reversed(steps):
        step()
    assert world.endpoint().workload.locality == "eu/eu-1"


def test_slices_that_a_service_left_behind_are_not_its_endpoints_once_it_is_an_external_name() -> None:
    """The cluster's controllers do not remove them when the type of a Service changes."""
    world = World()
    world.join.take_pods(present(pod()))
    world.join.take_slices(present(endpoint_slice()))
    assert world.endpoints()
    ports = [{"name": "http", "port": 80}]
    world.apply_service({"type": "ExternalName", "externalName": "example.com", "ports": ports})
    assert not world.endpoints()


def test_a_pod_is_known_before_it_has_an_address_and_until_it_is_deleted() -> None:
    """The pod's sidecar can connect before the kubelet has written its address."""
    world = World()
    starting = {"phase": "Pending"}
    world.join.take_pods(present(pod(status=starting)))
    snapshot, _ = world.store.build()
    known = snapshot.known_workloads.named("default", "a")
    assert known is not None
    assert (known.labels, known.service_account, known.uid, known.node) == (LABELS, "sa", "1", "n")
    assert not snapshot.workloads

    world.join.take_slices(present(endpoint_slice()))
    assert not world.endpoints()
    status = pod()["status"] | {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    world.join.take_pods(present(pod(status=status)))
    assert world.endpoint().address == "10.0.0.1"
    known = world.store.build()[0].known_workloads.named("default", "a")
    assert known is not None
    assert known.addresses == ("10.0.0.1", "fd00::1")

    world.join.take_pods(Changes(gone=(("default", "a"),)))
    assert world.store.build()[0].known_workloads.named("default", "a") is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_ignored(phase: str) -> None:
    world = World()
    world.join.take_pods(present(pod()))
    world.store.build()
    world.join.take_pods(present(pod(status={"phase": phase, "podIP": "10.0.0.1"})))
    assert world.store.build()[0].known_workloads.named("default", "a") is None


def owned(kind: str, name: str, *, controller: bool = True, **labels: str) -> dict[str, Any]:
    return {
        "name": f"{name}-x7z2k",
        "namespace": "default",
        "generateName": f"{name}-",
        "labels": {label.replace("_", "-"): value for label, value in labels.items()},
        "ownerReferences": [{"kind": kind, "name": name, "controller": controller}],
    }


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        (owned("ReplicaSet", "web-v1-7ddc54f689", pod_template_hash="7ddc54f689"), "web-v1"),
        (owned("ReplicaSet", "web-v1-7ddc54f689", rollouts_pod_template_hash="7ddc54f689"), "web-v1"),
        (owned("ReplicaSet", "web-v1-7ddc54f689", pod_template_hash="54f689"), "web-v1-7ddc54f689"),
        (owned("ReplicaSet", "by-hand"), "by-hand"),
        (owned("StatefulSet", "db"), "db"),
        (owned("DaemonSet", "agent"), "agent"),
        (owned("Job", "migrate"), "migrate"),
        (owned("Job", "migrate-2024"), "migrate-2024"),
        (owned("Job", "report-28934820"), "report"),
        (owned("ReplicationController", "old"), "old"),
        (owned("ReplicationController", "old-3", deploymentconfig="old"), "old"),
        (owned("Notebook", "of-a-custom-kind"), "of-a-custom-kind"),
        (owned("ReplicaSet", "web-1", controller=False), ""),
        ({"name": "alone", "namespace": "default"}, ""),
        ({"name": "alone", "namespace": "default", "ownerReferences": None, "labels": None}, ""),
        # The mirror of a static pod is owned by its node, and has a fixed name.
        ({"name": "s", "ownerReferences": [{"kind": "Node", "name": "n", "controller": True}]}, ""),
    ],
)
def test_a_pod_is_named_by_its_owner(metadata: dict[str, Any], owner: str) -> None:
    assert pod_owner(metadata) == owner


def test_an_endpoint_knows_the_owner_of_its_pod() -> None:
    world = World()
    labels = {**LABELS, "pod-template-hash": "7ddc54f689"}
    owner = {"kind": "ReplicaSet", "name": "reviews-v1-7ddc54f689", "controller": True}
    metadata = {
        **pod()["metadata"],
        "labels": labels,
        "generateName": "reviews-v1-7ddc54f689-",
        "ownerReferences": [owner],
    }
    world.join.take_pods(present(pod(metadata=metadata)))
    world.join.take_slices(present(endpoint_slice()))
    assert (world.endpoint().workload.name, world.endpoint().workload.owner) == ("a", "reviews-v1")
