from __future__ import annotations

from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.service import Registry, Workload


def pod(name: str, *addresses: str) -> Workload:
    return Workload(
        name=name, namespace="default", address="", registry=Registry.KUBERNETES, addresses=addresses
    )


def known(*pods: Workload) -> KnownWorkloads:
    return KnownWorkloads(pods={(each.namespace, each.name): each for each in pods})


def test_a_pod_counts_before_a_workload_entry_of_its_name() -> None:
    entry, found = Workload(name="a", namespace="default", address="10.0.0.9"), pod("a")
    entries = {("default", "a"): entry}
    both = KnownWorkloads(pods={("default", "a"): found}, entries=entries)
    assert both.named("default", "a") is found
    assert KnownWorkloads(entries=entries).named("default", "a") is entry


def test_a_name_is_one_in_its_namespace() -> None:
    assert known(pod("a")).named("other", "a") is None


def test_a_pod_is_found_by_each_of_its_addresses() -> None:
    found = pod("a", "10.0.0.1", "fd00::1")
    workloads = known(found, pod("b", "10.0.0.2"))
    assert workloads.pod_at("default", "10.0.0.1") is workloads.pod_at("default", "fd00::1") is found
    assert workloads.pod_at("other", "10.0.0.1") is None


def test_an_address_of_several_pods_identifies_none_of_them() -> None:
    assert known(pod("a", "10.0.0.1"), pod("b", "10.0.0.1")).pod_at("default", "10.0.0.1") is None
