"""The metadata that a sidecar gets about its own workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Registry
from controlplane.networking import build_listeners
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import mesh, port, service, sidecar_proxy, workload

POD = "reviews-v1-7ddc54f689-x7z2k"


def metadata(*, proxy: Mapping[str, Any] = MappingProxyType({}), **pod: Any) -> set[str]:
    """The metadata of all listeners that have any."""
    found = workload("reviews", "10.0.0.1", **{"name": POD, "registry": Registry.KUBERNETES, **pod})
    snapshot = replace(
        mesh((service("reviews", port(9080)), [found])),
        known_workloads=KnownWorkloads(pods={(found.namespace, found.name): found}),
    )
    listeners = build_listeners(
        BuildCache(), snapshot, sidecar_proxy("reviews", workload=POD, **proxy)
    ).values()
    return {
        each.metadata.filter_metadata["istio"]["workload"]
        for each in listeners
        if "istio" in each.metadata.filter_metadata
    }


@pytest.mark.parametrize(
    "proxy", [{}, {"interception_mode": InterceptionMode.NONE, "http_proxy_port": 15080}]
)
def test_the_sidecar_of_a_pod_gets_the_name_of_its_owner(proxy: dict[str, Any]) -> None:
    assert metadata(owner="reviews-v1", proxy=proxy) == {"reviews-v1;default;;;"}


@pytest.mark.parametrize(
    "pod",
    [
        {"owner": ""},
        {"owner": "reviews-v1", "name": "another"},
        {"owner": "reviews-v1", "namespace": "elsewhere"},
    ],
)
def test_an_unknown_owner_has_no_metadata(pod: dict[str, Any]) -> None:
    assert metadata(**pod) == set()


def test_sidecars_of_several_workloads_get_their_own_names() -> None:
    proxy = {"interception_mode": InterceptionMode.NONE, "http_proxy_port": 15080}
    assert metadata(owner="a", proxy=proxy) == {"a;default;;;"}
    assert metadata(owner="b", proxy=proxy) == {"b;default;;;"}
