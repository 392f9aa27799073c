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


class World:
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
def world() -> World:
    return World()


def hcm(name: str = "r", **source: Any) -> dict[str, Any]:
    return listener("l", http_connection_manager(rds=rds(name, **source)))


def routed_to(cluster: str) -> dict[str, Any]:
    return changed(route_configuration("r"), "virtual_hosts[0].routes[0].route.cluster", cluster)


def test_a_cluster_waits_for_its_first_assignment(world: World) -> None:
    world.put(CLUSTER, eds_cluster("e"))
    assert not world.publish().clusters
    assert world.warming.warming_clusters == {"e"}
    assert world.warming.wanted_endpoints() == {"e"}
    world.put(ENDPOINT, load_assignment("e", 1))
    assert "e" in world.publish().clusters
    assert not world.warming.warming_clusters


def test_the_wait_ends_with_its_timeout_and_happens_once(world: World) -> None:
    world.put(CLUSTER, eds_cluster("e"))
    world.publish()
    assert world.warming.next_deadline() == 115.0
    world.now = 114.9
    assert not world.publish().clusters
    world.now = 115.0
    assert "e" in world.publish().clusters
    assert world.warming.next_deadline() is None
    world.put(CLUSTER, eds_cluster("e", connect_timeout="2s"))
    assert world.publish().clusters["e"].connect_timeout_s == 2.0


def test_a_timeout_of_zero_waits_for_ever(world: World) -> None:
    world.put(LISTENER, hcm(initial_fetch_timeout="0s"))
    world.publish()
    world.now += 1e6
    assert not world.publish().listeners
    assert world.warming.next_deadline() is None


def test_a_listener_waits_for_its_routes_and_they_for_new_clusters(world: World) -> None:
    world.put(LISTENER, hcm())
    world.put(CLUSTER, eds_cluster("a"))
    assert not world.publish().listeners
    world.put(ROUTE, route_configuration("r"))
    assert not world.publish().listeners, "the cluster of its route has no hosts yet"
    assert not world.publish().routes
    world.put(ENDPOINT, load_assignment("a", 1))
    snapshot = world.publish()
    assert "l" in snapshot.listeners
    assert "r" in snapshot.routes


def test_the_route_before_serves_until_the_new_cluster_is_warm(world: World) -> None:
    world.put(CLUSTER, static_cluster("a"))
    world.put(LISTENER, hcm())
    old = world.put(ROUTE, routed_to("a"))
    assert world.publish().routes["r"] is old
    world.put(CLUSTER, eds_cluster("new"))
    new = world.put(ROUTE, routed_to("new"))
    assert world.publish().routes["r"] is old
    world.put(ENDPOINT, load_assignment("new", 1))
    assert world.publish().routes["r"] is new


def test_the_listener_before_serves_until_the_new_routes_are_there(world: World) -> None:
    world.put(LISTENER, hcm())
    world.put(ROUTE, route_configuration("r"))
    old = world.publish().listeners["l"]
    new = world.put(LISTENER, hcm("other"))
    assert world.publish().listeners["l"] is old
    assert world.warming.warming_listeners == {"l"}
    assert world.warming.wanted_routes() == {"r", "other"}, "the old one is still read"
    world.put(ROUTE, route_configuration("other"))
    assert world.publish().listeners["l"] is new
    assert world.warming.wanted_routes() == {"other"}


def test_a_cluster_that_changes_its_assignment_serves_on_as_it_was(world: World) -> None:
    old = world.put(CLUSTER, eds_cluster("e"))
    world.put(ENDPOINT, load_assignment("e", 1))
    world.publish()
    renamed = changed(eds_cluster("e"), "eds_cluster_config.service_name", "other")
    world.put(CLUSTER, renamed)
    assert world.publish().clusters["e"] is old
    assert world.warming.wanted_endpoints() == {"e", "other"}


def test_a_cluster_waits_for_the_first_look_up_of_its_names(world: World) -> None:
    world.put(CLUSTER, dns_cluster("d"))
    world.put(LISTENER, hcm())
    world.put(ROUTE, routed_to("d"))
    assert world.warming.next_clusters().keys() == {"d"}
    snapshot = world.publish("d")
    assert (snapshot.clusters, snapshot.listeners, snapshot.routes) == ({}, {}, {})
    assert world.warming.warming_clusters == {"d"}
    assert world.warming.waits
    snapshot = world.publish()
    assert (snapshot.clusters.keys(), snapshot.listeners.keys()) == ({"d"}, {"l"})
    assert world.warming.next_clusters() == {}


def test_a_replaced_cluster_serves_until_the_names_of_its_successor_are_resolved(world: World) -> None:
    old = world.put(CLUSTER, dns_cluster("d"))
    world.publish()
    new = world.put(CLUSTER, dns_cluster("d", connect_timeout="2s"))
    assert world.warming.next_clusters() == {"d": new}
    assert world.publish("d").clusters["d"] is old
    world.put(LISTENER, listener("l", tcp_proxy("d")))
    assert "l" in world.publish("d").listeners, "the cluster serves, though as it was"
    assert world.publish().clusters["d"] is new


def test_unknown_clusters_hold_nothing_up(world: World) -> None:
    world.put(LISTENER, listener("l", tcp_proxy("nowhere")))
    assert "l" in world.publish().listeners


def test_an_answer_that_there_is_none_ends_the_wait(world: World) -> None:
    world.put(CLUSTER, eds_cluster("e"))
    world.store.remove(ENDPOINT, ["e"])
    assert "e" in world.publish().clusters


def test_a_refused_assignment_ends_the_wait_as_in_envoy(world: World) -> None:
    world.put(CLUSTER, eds_cluster("e"))
    bad = packed(ENDPOINT, load_assignment("e", 1, host="no-address")).value
    world.store.add(ENDPOINT, RawResource(version="1", type_url=ENDPOINT, body=bad))
    assert "e" in world.publish().clusters


def test_an_assignment_that_is_removed_while_in_use_serves_on(world: World) -> None:
    world.put(CLUSTER, eds_cluster("e"))
    world.put(ENDPOINT, load_assignment("e", 1))
    world.publish()
    world.store.remove(ENDPOINT, ["e"])
    assert world.publish().endpoints["e"].endpoints


def test_nothing_is_published_when_nothing_changed(world: World) -> None:
    world.put(CLUSTER, static_cluster("a"))
    world.publish()
    assert world.warming.candidate(world.now) is None
    world.put(CLUSTER, static_cluster("a"))
    assert world.warming.candidate(world.now) is None


def test_a_listener_waits_for_the_clusters_of_its_http_filters(world: World) -> None:
    health = http_filter(
        "health", HEALTH_CHECK, pass_through_mode=False, cluster_min_healthy_percentages={"e": {"value": 1}}
    )
    manager = http_connection_manager(route_config=route_configuration(), http_filters=[health, router()])
    world.put(CLUSTER, static_cluster("a"))
    world.put(CLUSTER, eds_cluster("e"))
    world.put(LISTENER, listener("l", manager))
    assert not world.publish().listeners
    world.put(ENDPOINT, load_assignment("e", 1))
    assert "l" in world.publish().listeners


def test_a_listener_does_not_wait_for_a_filters_cluster_that_does_not_exist(world: World) -> None:
    health = http_filter(
        "health", HEALTH_CHECK, pass_through_mode=False, cluster_min_healthy_percentages={"e": {"value": 1}}
    )
    manager = http_connection_manager(route_config=route_configuration(), http_filters=[health, router()])
    world.put(CLUSTER, static_cluster("a"))
    world.put(LISTENER, listener("l", manager))
    assert "l" in world.publish().listeners
