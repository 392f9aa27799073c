"""The privileges of a container, from its security context."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.privileges import (
    ALL_CAPABILITIES,
    DEFAULT_CAPABILITIES,
    Ownership,
    ownership_of,
    privileges_of,
)


def pod(*contexts: Resource | None, **of_pod: Any) -> Resource:
    """With a container for each context."""
    containers = [
        {"name": "main"} | ({} if context is None else {"securityContext": context}) for context in contexts
    ]
    metadata = {"name": "web", "namespace": "shop", "uid": "7"}
    return {"metadata": metadata, "spec": {"securityContext": of_pod, "containers": containers}}


def only(resource: Resource) -> Resource:
    (container,) = resource["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, DEFAULT_CAPABILITIES),
        ({"drop": ["ALL"], "add": ["NET_ADMIN", "CAP_NET_RAW"]}, {"net_admin", "net_raw"}),
        ({"add": ["NET_ADMIN"]}, DEFAULT_CAPABILITIES | {"net_admin"}),
        ({"drop": ["CHOWN"]}, DEFAULT_CAPABILITIES - {"chown"}),
        ({"add": ["ALL"], "drop": ["CHOWN"]}, ALL_CAPABILITIES - {"chown"}),
        ({"add": ["CHOWN"], "drop": ["CHOWN"]}, DEFAULT_CAPABILITIES - {"chown"}),
    ],
)
def test_capabilities_are_added_and_dropped(asked: Resource, expected: set[str]) -> None:
    resource = pod({"capabilities": asked})
    assert privileges_of(resource, only(resource), 0).capabilities == expected


def test_the_container_s_context_counts_before_the_pod_s_and_both_before_the_image_s_user() -> None:
    resource = pod({"runAsUser": 5}, runAsUser=6, runAsGroup=7, supplementalGroups=[8, 9], fsGroup=8)
    found = privileges_of(resource, only(resource), 4)
    assert (found.user, found.group, found.groups) == (5, 7, (8, 9))
    resource = pod(None)
    assert privileges_of(resource, only(resource), 4).user == 4


def test_an_image_that_does_not_run_as_root_satisfies_run_as_non_root() -> None:
    resource = pod({"runAsNonRoot": True})
    assert privileges_of(resource, only(resource), 65532).user == 65532


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (pod(None, runAsUser=5, fsGroup=6), Ownership(user=5, group=6)),
        (pod({"runAsUser": 5}, {"runAsUser": 5}), Ownership(user=5)),
        (pod({"runAsUser": 5}, {"runAsUser": 7}), Ownership()),
        (pod({"runAsUser": 5}, None), Ownership()),
    ],
)
def test_a_user_owns_the_volumes_where_all_containers_run_as_it(
    resource: Resource, expected: Ownership
) -> None:
    assert ownership_of(resource["spec"]) == expected
