"""Statuses of resources of an unsupported kind, of which the watch reports only the metadata."""

from __future__ import annotations

from typing import Any

from controlplane.errors import UnreachableError
from controlplane.model.snapshot import ResourceKey
from controlplane.model.status import Origin
from controlplane.resources.foreign import AUTHORIZATION_POLICY
from controlplane.resources.kind_registry import unsupported
from tests.support.status_cluster import Cluster

POLICY = ResourceKey(kind="AuthorizationPolicy", namespace="default", name="deny-all")


POLICY_PATH = "/apis/security.istio.io/v1/namespaces/default/authorizationpolicies/deny-all"


def write_policy(cluster: Cluster, generation: int, version: str, **status: Any) -> None:
    metadata = {"name": "deny-all", "generation": generation, "resourceVersion": version}
    cluster.objects[POLICY_PATH] = {"metadata": metadata, "spec": {}, "status": status}
    tell_policy(cluster)
    origin = Origin(file="Kubernetes", generation=generation)
    cluster.store.reject(POLICY, (unsupported(AUTHORIZATION_POLICY),), origin)
    cluster.build()


def tell_policy(cluster: Cluster) -> None:
    found = {"metadata": cluster.objects[POLICY_PATH]["metadata"]}
    cluster.ledger.note_metadata(POLICY, "security.istio.io/v1", "authorizationpolicies", found)


async def test_the_status_of_an_unsupported_policy_says_so() -> None:
    cluster = Cluster()
    others = {"type": "Reconciled", "status": "True"}
    write_policy(cluster, 1, "7", conditions=[others], observedGeneration="1")
    assert await cluster.write() == []  # it is read first: conditions of others must stay
    assert await cluster.write() == ["deny-all"]
    status = cluster.objects[POLICY_PATH]["status"]
    kept, accepted = status["conditions"]
    assert kept == others
    assert (accepted["type"], accepted["status"], accepted["reason"]) == ("Accepted", "False", "Unsupported")
    assert "no request is denied" in accepted["message"]
    assert accepted["observedGeneration"] == 1
    assert "proxies" not in status

    tell_policy(cluster)  # of our own write
    assert await cluster.write() == []
    assert await cluster.write() == []

    write_policy(cluster, 2, "9", conditions=status["conditions"])
    await cluster.write()
    assert await cluster.write() == ["deny-all"]
    [_, accepted] = cluster.objects[POLICY_PATH]["status"]["conditions"]
    assert accepted["observedGeneration"] == 2


async def test_a_policy_that_cannot_be_read_now_is_read_later() -> None:
    cluster = Cluster()
    write_policy(cluster, 1, "7")
    collection = POLICY_PATH.rpartition("/")[0]
    cluster.fails[collection] = UnreachableError("away")
    assert await cluster.write() == []
    del cluster.fails[collection]
    assert await cluster.write() == []
    cluster.now_s += 60
    await cluster.write()
    assert await cluster.write() == ["deny-all"]


async def test_a_deleted_policy_is_forgotten() -> None:
    cluster = Cluster()
    write_policy(cluster, 1, "7")
    cluster.ledger.note_metadata(POLICY, "security.istio.io/v1", "authorizationpolicies", None)
    assert list(cluster.ledger) == []
    assert await cluster.write() == []
