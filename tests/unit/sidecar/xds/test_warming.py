from __future__ import annotations

from typing import Any

import pytest

from protos import type_urls
from sidecar.config.snapshot import EMPTY_SNAPSHOT, Snapshot
from sidecar.xds.decode import Resource
from sidecar.xds.store import Accepted, RawResource, Store
from sidecar.xds.warming import Warming
from tests.support.ads_server import packed
from tests.support.envoy_config import (
    changed,
    dns_cluster,
    eds_cluster,
    http_connection_manager,
    listener,
    load_assignment,
    rds,
    route_configuration,
    router,
    static_cluster,
    tcp_proxy,
)
from tests.support.http_filters import HEALTH_CHECK, http_filter

CLUSTER, ENDPOINT = type_urls.CLUSTER, type_urls.ENDPOINT
LISTENER, ROUTE = type_urls.LISTENER, type_urls.ROUTE
NAME_TABLE, NAME_TABLE_NAME = type_urls.NAME_TABLE, type_urls.NAME_TABLE_NAME


class WarmingStore:
    def __init__(self) -> None:
        self.store = Store(EMPTY_SNAPSHOT, wall_clock=lambda: 0.0)
        self.warming = Warming(self.store)
        self.now = 100.0

    def put(self, type_url: str, document: dict[str, Any]) -> Resource:
        body = packed(type_url, document).value
        result = self.store.add(type_url, RawResource(version="1", type_url=type_url, body=body))
        assert isinstance(result, Accepted), result
        return result.value

    def publish(self, *unresolved: str) -> Snapshot:
        snapshot = self.warming.candidate(self.now, unresolved=frozenset(unresolved))
        if snapshot is not None:
            self.warming.published = snapshot
        return self.warming.published


@pytest.fixture
def resources() -> WarmingStore:
    return WarmingStore()


def test_new_names_wait_for_the_listeners_that_they_may_lead_to(resources: WarmingStore) -> None:
    resources.put(NAME_TABLE, {"table": {"a.example.com": {"ips": ["10.0.0.1"]}}})
    assert resources.publish().names[NAME_TABLE_NAME].hosts["a.example.com"].v4 == ("10.0.0.1",)
    resources.put(LISTENER, hcm())
    resources.put(NAME_TABLE, {"table": {"b.example.com": {"ips": ["240.240.0.1"]}}})
    assert "a.example.com" in resources.publish().names[NAME_TABLE_NAME].hosts
    resources.put(ROUTE, route_configuration("r"))
    assert "b.example.com" in resources.publish().names[NAME_TABLE_NAME].hosts


def hcm(name: str = "r", **source: Any) -> dict[str, Any]:
    return listener("l", http_connection_manager(rds=rds(name, **source)))


def routed_to(cluster: str) -> dict[str, Any]:
    return changed(route_configuration("r"), "virtual_hosts[0].routes[0].route.cluster", cluster)


def test_a_cluster_waits_for_its_first_assignment(resources: WarmingStore) -> None:
    resources.put(CLUSTER, eds_cluster("e"))
    assert not resources.publish().clusters
    assert resources.warming.warming_clusters == {"e"}
    assert resources.warming.wanted_endpoints() == {"e"}
    resources.put(ENDPOINT, load_assignment("e", 1))
    assert "e" in resources.publish().clusters
    assert not resources.warming.warming_clusters


def test_the_wait_ends_with_its_timeout_and_is_not_repeated(resources: WarmingStore) -> None:
    resources.put(CLUSTER, eds_cluster("e"))
    resources.publish()
    assert resources.warming.next_deadline() == 115.0
    resources.now = 114.9
    assert not resources.publish().clusters
    resources.now = 115.0
    assert "e" in resources.publish().clusters
    assert resources.warming.next_deadline() is None
    resources.put(CLUSTER, eds_cluster("e", connect_timeout="2s"))
    assert resources.publish().clusters["e"].connect_timeout_s == 2.0


def test_a_timeout_of_zero_waits_for_ever(resources: WarmingStore) -> None:
    resources.put(LISTENER, hcm(initial_fetch_timeout="0s"))
    resources.publish()
    resources.now += 1e6
    assert not resources.publish().listeners
    assert resources.warming.next_deadline() is None


def test_a_listener_waits_for_its_routes_and_routes_wait_for_new_clusters(resources: WarmingStore) -> None:
    resources.put(LISTENER, hcm())
    resources.put(CLUSTER, eds_cluster("a"))
    assert not resources.publish().listeners
    resources.put(ROUTE, route_configuration("r"))
    assert not resources.publish().listeners, "the cluster of its route has no hosts yet"
    assert not resources.publish().routes
    resources.put(ENDPOINT, load_assignment("a", 1))
    snapshot = resources.publish()
    assert "l" in snapshot.listeners
    assert "r" in snapshot.routes


def test_the_route_before_is_served_until_the_new_cluster_is_warm(resources: WarmingStore) -> None:
    resources.put(CLUSTER, static_cluster("a"))
    resources.put(LISTENER, hcm())
    old = resources.put(ROUTE, routed_to("a"))
    assert resources.publish().routes["r"] is old
    resources.put(CLUSTER, eds_cluster("new"))
    new = resources.put(ROUTE, routed_to("new"))
    assert resources.publish().routes["r"] is old
    resources.put(ENDPOINT, load_assignment("new", 1))
    assert resources.publish().routes["r"] is new


def test_the_listener_before_is_served_until_the_new_routes_arrive(resources: WarmingStore) -> None:
    resources.put(LISTENER, hcm())
    resources.put(ROUTE, route_configuration("r"))
    old = resources.publish().listeners["l"]
    new = resources.put(LISTENER, hcm("other"))
    assert resources.publish().listeners["l"] is old
    assert resources.warming.warming_listeners == {"l"}
    assert resources.warming.wanted_routes() == {"r", "other"}, "the old one is still read"
    resources.put(ROUTE, route_configuration("other"))
    assert resources.publish().listeners["l"] is new
    assert resources.warming.wanted_routes() == {"other"}


def test_a_cluster_is_served_as_before_until_its_new_assignment_arrives(
    resources: WarmingStore,
) -> None:
    old = resources.put(CLUSTER, eds_cluster("e"))
    resources.put(ENDPOINT, load_assignment("e", 1))
    resources.publish()
    renamed = changed(eds_cluster("e"), "eds_cluster_config.service_name", "other")
    resources.put(CLUSTER, renamed)
    assert resources.publish().clusters["e"] is old
    assert resources.warming.wanted_endpoints() == {"e", "other"}


def test_a_cluster_waits_for_the_first_look_up_of_its_names(resources: WarmingStore) -> None:
    resources.put(CLUSTER, dns_cluster("d"))
    resources.put(LISTENER, hcm())
    resources.put(ROUTE, routed_to("d"))
    assert resources.warming.next_clusters().keys() == {"d"}
    snapshot = resources.publish("d")
    assert (snapshot.clusters, snapshot.listeners, snapshot.routes) == ({}, {}, {})
    assert resources.warming.warming_clusters == {"d"}
    assert resources.warming.waits
    snapshot = resources.publish()
    assert (snapshot.clusters.keys(), snapshot.listeners.keys()) == ({"d"}, {"l"})
    assert resources.warming.next_clusters() == {}


def test_a_cluster_is_served_until_the_names_of_its_successor_are_resolved(
    resources: WarmingStore,
) -> None:
    old = resources.put(CLUSTER, dns_cluster("d"))
    resources.publish()
    new = resources.put(CLUSTER, dns_cluster("d", connect_timeout="2s"))
    assert resources.warming.next_clusters() == {"d": new}
    assert resources.publish("d").clusters["d"] is old
    resources.put(LISTENER, listener("l", tcp_proxy("d")))
    assert "l" in resources.publish("d").listeners, "the cluster serves, though as it was"
    assert resources.publish().clusters["d"] is new


def test_routes_do_not_wait_for_unknown_clusters(resources: WarmingStore) -> None:
    resources.put(LISTENER, listener("l", tcp_proxy("nowhere")))
    assert "l" in resources.publish().listeners


def test_a_response_that_a_resource_does_not_exist_ends_the_wait(resources: WarmingStore) -> None:
    resources.put(CLUSTER, eds_cluster("e"))
    resources.store.remove(ENDPOINT, ["e"])
    assert "e" in resources.publish().clusters


def test_a_refused_assignment_ends_the_wait_as_in_envoy(resources: WarmingStore) -> None:
    resources.put(CLUSTER, eds_cluster("e"))
    bad = packed(ENDPOINT, load_assignment("e", 1, host="no-address")).value
    resources.store.add(ENDPOINT, RawResource(version="1", type_url=ENDPOINT, body=bad))
    assert "e" in resources.publish().clusters


def test_a_removed_assignment_that_is_in_use_is_served(resources: WarmingStore) -> None:
    resources.put(CLUSTER, eds_cluster("e"))
    resources.put(ENDPOINT, load_assignment("e", 1))
    resources.publish()
    resources.store.remove(ENDPOINT, ["e"])
    assert resources.publish().endpoints["e"].endpoints


def test_nothing_is_published_when_nothing_changed(resources: WarmingStore) -> None:
    resources.put(CLUSTER, static_cluster("a"))
    resources.publish()
    assert resources.warming.candidate(resources.now) is None
    resources.put(CLUSTER, static_cluster("a"))
    assert resources.warming.candidate(resources.now) is None


def test_a_listener_waits_for_the_clusters_of_its_http_filters(resources: WarmingStore) -> None:
    health = http_filter(
        "health", HEALTH_CHECK, pass_through_mode=False, cluster_min_healthy_percentages={"e": {"value": 1}}
    )
    manager = http_connection_manager(route_config=route_configuration(), http_filters=[health, router()])
    resources.put(CLUSTER, static_cluster("a"))
    resources.put(CLUSTER, eds_cluster("e"))
    resources.put(LISTENER, listener("l", manager))
    assert not resources.publish().listeners
    resources.put(ENDPOINT, load_assignment("e", 1))
    assert "l" in resources.publish().listeners


def test_a_listener_does_not_wait_for_a_filters_cluster_that_does_not_exist(resources: WarmingStore) -> None:
    health = http_filter(
        "health", HEALTH_CHECK, pass_through_mode=False, cluster_min_healthy_percentages={"e": {"value": 1}}
    )
    manager = http_connection_manager(route_config=route_configuration(), http_filters=[health, router()])
    resources.put(CLUSTER, static_cluster("a"))
    resources.put(LISTENER, listener("l", manager))
    assert "l" in resources.publish().listeners
