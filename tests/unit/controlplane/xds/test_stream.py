"""The order of responses in both variants of the protocol, and the absence of deadlocks."""

from __future__ import annotations

import pytest

from controlplane.xds.stream import PATIENCE_S
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.support.xds_exchange import DeltaExchange, SotwExchange, outline
from tests.support.xds_world import cluster, endpoints, listener, route

Proxy = SotwExchange | DeltaExchange


@pytest.fixture(params=[SotwExchange, DeltaExchange])
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """A proxy that is subscribed to one cluster, its endpoints, a listener and a route, and is up to date."""
    exchange: Proxy = request.param()
    exchange.mesh.put(cluster("a"), endpoints("a"), listener("l"), route("r"))
    exchange.subscribe(CLUSTER)
    exchange.subscribe(ENDPOINT, "a")
    exchange.subscribe(LISTENER)
    exchange.subscribe(ROUTE, "r")
    exchange.settle()
    exchange.now += 60
    return exchange


def short_names(responses: list) -> list[str]:
    return [short for short, _ in outline(responses)]


def everything_changes(proxy: Proxy) -> list:
    return proxy.change(cluster("a", 1), endpoints("a", 1), listener("l", 1), route("r", 1))


def test_a_push_goes_out_in_order(proxy: Proxy) -> None:
    first = everything_changes(proxy)
    assert short_names(first) == ["cds", "eds"]
    for response in first:
        proxy.acknowledge(response)
    assert short_names(proxy.push()) == ["lds", "rds"]


def test_listeners_and_routes_wait_for_clusters_and_their_endpoints(proxy: Proxy) -> None:
    clusters, assignments = everything_changes(proxy)
    proxy.acknowledge(clusters)
    assert proxy.push() == []
    proxy.acknowledge(assignments)
    assert short_names(proxy.push()) == ["lds", "rds"]


def test_a_route_that_needs_no_new_cluster_waits_for_nothing(proxy: Proxy) -> None:
    assert short_names(proxy.change(route("r", 1))) == ["rds"]
    assert short_names(proxy.change(endpoints("a", 1), route("r", 2))) == ["eds", "rds"]


def test_a_rejected_cluster_does_not_hold_up_the_routes(proxy: Proxy) -> None:
    clusters, _ = everything_changes(proxy)
    proxy.acknowledge(clusters, error="unknown lb policy")
    assert short_names(proxy.push()) == ["lds", "rds"]


def test_rejected_endpoints_do_not_hold_up_the_routes(proxy: Proxy) -> None:
    clusters, assignments = everything_changes(proxy)
    proxy.acknowledge(clusters)
    proxy.acknowledge(assignments, error="no such locality")
    assert short_names(proxy.push()) == ["lds", "rds"]


def test_endpoints_that_do_not_exist_do_not_hold_up_the_routes(proxy: Proxy) -> None:
    proxy.mesh.remove(ENDPOINT, "a")
    first = proxy.change(cluster("a", 1), route("r", 1))
    proxy.acknowledge(first[0])
    assert short_names(proxy.push()) == ["rds"]


def test_a_silent_proxy_is_waited_for_until_the_timeout(proxy: Proxy) -> None:
    everything_changes(proxy)
    assert proxy.stream.wake_at(proxy.now) == proxy.now + PATIENCE_S
    proxy.now += PATIENCE_S - 0.001
    assert not proxy.stream.has_work(proxy.now)
    proxy.now += 0.001
    assert proxy.stream.has_work(proxy.now)
    assert short_names(proxy.push()) == ["lds", "rds"]
    assert proxy.stream.wake_at(proxy.now) is None


def test_the_timeout_of_a_silent_proxy_does_not_restart_with_each_change(proxy: Proxy) -> None:
    everything_changes(proxy)
    for content in range(2, 6):
        proxy.now += PATIENCE_S / 4
        sent = short_names(proxy.change(cluster("a", content), route("r", content)))
    assert sent == ["cds", "eds", "lds", "rds"]


def remove_cluster_and_its_users(proxy: Proxy) -> list:
    proxy.mesh.remove(CLUSTER, "a")
    proxy.mesh.remove(ENDPOINT, "a")
    return proxy.change(listener("l", 1), route("r", 1))


def test_a_removed_cluster_goes_after_its_users_and_its_endpoints_after_it(proxy: Proxy) -> None:
    users = remove_cluster_and_its_users(proxy)
    assert short_names(users) == ["lds", "rds"]
    proxy.acknowledge(users[0])
    assert proxy.push() == []
    proxy.acknowledge(users[1])
    assert short_names(proxy.push()) == ["cds"]
    endings = proxy.push()
    if isinstance(proxy, DeltaExchange):
        assert outline(endings) == [("eds", {"-a"})]
    else:
        assert endings == [], "state-of-the-world xDS cannot remove endpoints"


def test_a_removed_cluster_stays_while_the_routes_that_drop_it_are_rejected(proxy: Proxy) -> None:
    listeners, routes = remove_cluster_and_its_users(proxy)
    proxy.acknowledge(listeners)
    proxy.acknowledge(routes, error="no")
    proxy.now += PATIENCE_S
    assert proxy.push() == []
    mended = proxy.change(route("r", 2))
    assert short_names(mended) == ["rds"]
    proxy.now += 1
    proxy.acknowledge(mended[0])
    assert short_names(proxy.push()) == ["cds"]


def test_a_removed_cluster_does_not_wait_for_a_silent_proxy_for_ever(proxy: Proxy) -> None:
    remove_cluster_and_its_users(proxy)
    wake_at = proxy.stream.wake_at(proxy.now)
    assert wake_at == proxy.now + PATIENCE_S
    proxy.now = wake_at
    assert proxy.stream.has_work(proxy.now)
    assert short_names(proxy.push()) == ["cds"]


def test_an_unreferenced_cluster_is_removed_at_once() -> None:
    proxy = DeltaExchange()
    proxy.mesh.put(cluster("a"))
    proxy.subscribe(CLUSTER)
    assert outline(proxy.remove(CLUSTER, "a")) == [("cds", {"-a"})]


def test_clusters_without_endpoints_of_their_own_are_not_waited_for(proxy: Proxy) -> None:
    first = proxy.change(cluster("passthrough", eds=False), route("r", 1))
    assert short_names(first) == ["cds"]
    proxy.acknowledge(first[0])
    assert short_names(proxy.push()) == ["rds"]
