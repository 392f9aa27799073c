"""The facts of Namespaces, Nodes and Pods that decide on injections."""

from __future__ import annotations

import pytest

from controlplane.kubernetes.list_watch import Changes
from tests.support.webhooks import cluster_objects, node, pod


@pytest.mark.parametrize(
    ("versions", "native"),
    [
        ([], False),
        (["v1.33.0"], True),
        (["v1.34.2+k3s1", "v2.0.0", "1.33.1-gke.100"], True),
        (["v1.33.0", "v1.32.9"], False),
        (["v1.9.0"], False),
        (["v1.33.0", None], False),
        (["", "v1.33.0"], False),
        (["nonsense"], False),
    ],
)
def test_sidecars_are_native_if_every_kubelet_is_new_enough(versions: list[str | None], native: bool) -> None:
    nodes = [node(str(number), version) for number, version in enumerate(versions)]
    assert cluster_objects(nodes=tuple(nodes)).native_sidecars is native


def test_an_old_node_that_leaves_counts_no_longer() -> None:
    objects = cluster_objects(nodes=(node("a", "v1.32.0"), node("b", "v1.33.0")))
    objects.take_nodes(Changes(gone=(("", "a"),)))
    assert objects.native_sidecars
    objects.take_nodes(Changes(present=(node("b", "v1.31.0"),)))
    assert not objects.native_sidecars


def test_only_pods_without_a_sidecar_are_kept() -> None:
    meshed = [
        pod("a", containers=("app", "outrigger-sidecar")),
        pod("b", init_containers=("outrigger-sidecar",)),
        pod("c", phase="Succeeded"),
        pod("d", phase="Failed"),
        {**pod("e"), "metadata": {**pod("e")["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ]
    objects = cluster_objects(pods=(*meshed, pod("f"), pod("g")))
    assert set(objects.pods_without_sidecar) == {("bookinfo", "f"), ("bookinfo", "g")}
    objects.take_pods(Changes(present=(pod("f", phase="Succeeded"),), gone=(("bookinfo", "g"),)))
    assert not objects.pods_without_sidecar
