from __future__ import annotations

import pytest

from controlplane.networking.peer_authentication import PeerAuthentications
from tests.support.meshes import Specs, mesh, service, workload

MESH = {"istio-system/mesh": {"mtls": {"mode": "STRICT"}}}
NAMESPACE = {"default/namespace": {"mtls": {"mode": "DISABLE"}}}
WORKLOAD = {
    "default/workload": {
        "selector": {"matchLabels": {"app": "reviews"}},
        "mtls": {"mode": "PERMISSIVE"},
        "portLevelMtls": {"9443": {"mode": "STRICT"}, "9080": {"mode": "UNSET"}},
    }
}


def mode(specs: Specs, port: int | None = 8080, app: str = "reviews") -> str:
    snapshot = mesh(peer_authentications=specs)
    policies = PeerAuthentications(snapshot.peer_authentications, snapshot.mesh_config.root_namespace)
    return policies.mode("default", {"app": app}, port).value


def test_the_default_is_permissive() -> None:
    assert mode({}) == "PERMISSIVE"


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (MESH, "STRICT"),
        ({**MESH, **NAMESPACE}, "DISABLE"),
        ({**MESH, **NAMESPACE, **WORKLOAD}, "PERMISSIVE"),
    ],
)
def test_the_nearest_level_counts(specs: Specs, expected: str) -> None:
    assert mode(specs) == expected


def test_a_ports_mode_comes_first_and_unset_inherits() -> None:
    assert mode({**MESH, **WORKLOAD}, port=9443) == "STRICT"
    assert mode({**MESH, **WORKLOAD}, port=9080) == "PERMISSIVE"


def test_unset_inherits_through_all_levels() -> None:
    specs = {**MESH, "default/namespace": {"mtls": {"mode": "UNSET"}}}
    assert mode(specs) == "STRICT"


def test_a_selector_leaves_other_workloads_alone() -> None:
    assert mode({**MESH, **WORKLOAD}, app="ratings") == "STRICT"


def test_the_older_of_two_for_a_namespace_counts() -> None:
    assert mode({"default/older": {"mtls": {"mode": "STRICT"}}, **NAMESPACE}) == "STRICT"


def test_another_namespaces_policy_does_not_count() -> None:
    assert mode({"other/namespace": {"mtls": {"mode": "STRICT"}}}) == "PERMISSIVE"


@pytest.mark.parametrize(("namespace", "accepts"), [("default", False), ("other", True)])
def test_an_endpoint_accepts_mesh_tls_unless_a_policy_disables_it(namespace: str, accepts: bool) -> None:
    reviews = service("reviews", namespace=namespace)
    pods = [
        workload("reviews", "10.1.0.1", namespace=namespace, mesh_tls=has_sidecar)
        for has_sidecar in (True, False)
    ]
    snapshot = mesh((reviews, pods), peer_authentications=NAMESPACE)
    policies = PeerAuthentications(snapshot.peer_authentications, snapshot.mesh_config.root_namespace)
    found = [policies.accept_mesh_tls(each) for each in snapshot.endpoints[reviews.hostname]]
    assert found == [accepts, False]
