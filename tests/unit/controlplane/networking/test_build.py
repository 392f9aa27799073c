from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from typing import Any, NoReturn

import pytest

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, ServiceEndpoint
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.headless import HeadlessEndpoint
from tests.support.bookinfo_mesh import REVIEWS, bookinfo
from tests.support.meshes import endpoints_of, mesh, port, service, sidecar_proxy, workload


class Recorded(dict[str, tuple[ServiceEndpoint, ...]]):
    """Endpoints by hostname that remember which were looked up, and refuse to be gone through."""

    def __init__(self, endpoints: Mapping[str, tuple[ServiceEndpoint, ...]]) -> None:
        super().__init__(endpoints)
        self.read: set[str] = set()

    def __getitem__(self, hostname: str) -> tuple[ServiceEndpoint, ...]:
        self.read.add(hostname)
        return super().__getitem__(hostname)

    def get(self, hostname: str, default: Any = None) -> Any:
        self.read.add(hostname)
        return super().get(hostname, default)

    def __iter__(self) -> NoReturn:
        raise AssertionError("all endpoints are gone through")

    keys = values = items = __iter__  # type: ignore[assignment]


def test_the_endpoints_of_one_service_are_built_from_its_own_alone() -> None:
    before = bookinfo()
    recorded = Recorded(before.endpoints)
    snapshot = dataclasses.replace(before, endpoints=recorded)
    (assignment,) = build_endpoints(
        BuildCache(), snapshot, sidecar_proxy(), [f"outbound|9080||{REVIEWS}"]
    ).values()
    assert assignment.endpoints
    assert recorded.read == {REVIEWS}


def test_a_changed_virtual_service_leaves_every_cluster_the_same_message() -> None:
    cache = BuildCache()
    before = bookinfo()
    routed = mesh(
        virtual_services={"reviews": {"hosts": [REVIEWS], "http": [{"directResponse": {"status": 200}}]}}
    )
    policies = {**before.policies, "VirtualService": routed.virtual_services}
    after = dataclasses.replace(before, generation=2, policies=policies)
    proxy = sidecar_proxy()
    old, new = (
        build_clusters(cache, before, proxy),
        build_clusters(cache, after, proxy),
    )
    assert old.keys() == new.keys()
    outbound = [name for name in old if name.startswith("outbound|")]
    assert outbound
    assert all(new[name] is old[name] for name in outbound)
    name = "9080"
    assert build_routes(cache, after, proxy, [name])[name] != build_routes(cache, before, proxy, [name])[name]


def test_a_new_service_account_changes_the_identities_in_clusters() -> None:
    """Endpoints decide more than endpoints: a snapshot's difference must say so."""
    cache = BuildCache()
    before = mesh((service("reviews"), [workload("reviews", "10.1.0.1", service_account="a")]))
    moved = mesh((service("reviews"), [workload("reviews", "10.1.0.1", service_account="b")]))
    after = dataclasses.replace(before, endpoints=moved.endpoints)
    name = f"outbound|9080||{REVIEWS}"
    assert (
        build_clusters(cache, before, sidecar_proxy())[name]
        != build_clusters(cache, after, sidecar_proxy())[name]
    )


def test_results_are_in_a_stable_order() -> None:
    cache = BuildCache()
    forward, proxy = bookinfo(), sidecar_proxy()
    backward = dataclasses.replace(
        forward,
        services=dict(reversed(forward.services.items())),
        endpoints=dict(reversed(forward.endpoints.items())),
    )
    assert list(build_clusters(cache, forward, proxy)) == list(build_clusters(cache, backward, proxy))
    assert list(build_listeners(cache, forward, proxy)) == list(build_listeners(cache, backward, proxy))
    routes = [build_routes(cache, each, proxy, ["9080"])["9080"] for each in (forward, backward)]
    assert routes[0].SerializeToString() == routes[1].SerializeToString()


def test_builders_do_not_change_results_that_they_returned() -> None:
    cache = BuildCache()
    snapshot, proxy = bookinfo(), sidecar_proxy()
    first = {
        name: message.SerializeToString() for name, message in build_clusters(cache, snapshot, proxy).items()
    }
    build_listeners(cache, snapshot, proxy)
    build_clusters(cache, snapshot, sidecar_proxy("other", namespace="data"))
    again = {
        name: message.SerializeToString() for name, message in build_clusters(cache, snapshot, proxy).items()
    }
    assert first == again


@pytest.mark.parametrize("fields", [{}, {"headless": True}], ids=["balanced", "headless"])
def test_old_endpoints_do_not_stay_in_the_cache(fields: dict[str, Any]) -> None:
    """They may change for days in a mesh where nothing else does, and each change of a proxy's own builds all
    that it needs."""
    cache = BuildCache()
    tcp = service("db", port(3306, Protocol.TCP), **fields)
    snapshot = mesh((tcp, []), (service("reviews"), []), proxy_http_port=15007)
    proxies = [sidecar_proxy(), sidecar_proxy(interception_mode=InterceptionMode.NONE)]
    for index in range(20):
        (endpoint,) = endpoints_of(tcp, [workload("db", f"10.77.0.{index}")])
        at = {tcp.hostname: (dataclasses.replace(endpoint, hostname="db-0"),)}
        changed = dataclasses.replace(snapshot, endpoints=at)
        for proxy in proxies:
            clusters, listeners = (
                build_clusters(cache, changed, proxy),
                build_listeners(cache, changed, proxy),
            )
            build_endpoints(cache, changed, proxy, clusters)
            build_routes(cache, changed, proxy, ["http_proxy", "9080"])
            assert f"10.77.0.{index}_3306" in listeners or not fields or proxy is not proxies[0]
    del endpoint, at, changed, clusters, listeners
    gc.collect()
    remembered = {each.address for each in gc.get_objects() if isinstance(each, ServiceEndpoint)}
    known = [address for address in remembered if address.startswith("10.77.0.")]
    assert known == ["10.77.0.19"]
    dialled = {each.address for each in gc.get_objects() if isinstance(each, HeadlessEndpoint)}
    assert len([address for address in dialled if address.startswith("10.77.0.")]) <= 1
