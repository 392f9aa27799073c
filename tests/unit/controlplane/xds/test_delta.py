from __future__ import annotations

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from controlplane.errors import ProxyError
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.support.xds_exchange import DeltaExchange, outline
from tests.support.xds_world import cluster, endpoints, listener, route


@pytest.fixture
def proxy() -> DeltaExchange:
    return DeltaExchange()


@pytest.mark.parametrize("names", [(), ("*",)])
def test_both_wildcards_mean_all_clusters(proxy: DeltaExchange, names: tuple[str, ...]) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    assert outline(proxy.subscribe(CLUSTER, *names)) == [("cds", {"a", "b"})]


def test_only_changes_are_sent(proxy: DeltaExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    proxy.subscribe(CLUSTER)
    assert outline(proxy.change(cluster("b", 1), cluster("c"))) == [("cds", {"b", "c"})]
    assert proxy.change(cluster("c")) == []


def test_removals_are_named(proxy: DeltaExchange) -> None:
    proxy.mesh.put(listener("a"), listener("b"))
    proxy.subscribe(LISTENER)
    assert outline(proxy.remove(LISTENER, "a")) == [("lds", {"-a"})]


def test_a_missing_resource_is_reported_as_removed_and_sent_once_it_exists(proxy: DeltaExchange) -> None:
    assert outline(proxy.subscribe(ROUTE, "r")) == [("rds", {"-r"})]
    assert proxy.change() == []
    assert outline(proxy.change(route("r"))) == [("rds", {"r"})]


def test_after_a_reconnect_only_changed_resources_are_sent(proxy: DeltaExchange) -> None:
    proxy.mesh.put(cluster("same"), cluster("other"), cluster("new"))
    [first] = proxy.subscribe(CLUSTER)
    versions = {resource.name: resource.version for resource in first.resources}

    again = DeltaExchange()
    again.mesh = proxy.mesh
    has = {"same": versions["same"], "other": "older", "gone": "1"}
    assert outline(again.subscribe(CLUSTER, has=has)) == [("cds", {"other", "new"}), ("cds", {"-gone"})]


def test_after_a_reconnect_an_explicit_subscription_is_compared_too(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    [first] = proxy.subscribe(ENDPOINT, "a", "b")
    versions = {resource.name: resource.version for resource in first.resources}

    again = DeltaExchange()
    again.mesh = proxy.mesh
    responses = again.subscribe(ENDPOINT, "a", "b", "c", has={"a": versions["a"], "b": "older"})
    assert outline(responses) == [("eds", {"b", "-c"})]
    assert again.change(endpoints("a"), endpoints("b")) == []


def test_a_proxy_that_has_everything_gets_an_empty_response(proxy: DeltaExchange) -> None:
    proxy.mesh.put(cluster("a"))
    [first] = proxy.subscribe(CLUSTER)
    again = DeltaExchange()
    again.mesh = proxy.mesh
    responses = again.subscribe(CLUSTER, has={"a": first.resources[0].version})
    assert outline(responses) == [("cds", set())]


def test_a_changed_cluster_gets_its_endpoints_again_after_a_reconnect(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"))
    [first] = proxy.subscribe(ENDPOINT, "a")
    again = DeltaExchange()
    again.mesh = proxy.mesh
    again.mesh.put(cluster("a"))
    again.subscribe(CLUSTER, has={"a": "older"})
    responses = again.subscribe(ENDPOINT, "a", has={"a": first.resources[0].version})
    assert outline(responses) == [("eds", {"a"})]


def test_a_repeated_subscription_is_answered_again(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"))
    assert outline(proxy.subscribe(ENDPOINT, "a")) == [("eds", {"a"})]
    assert outline(proxy.subscribe(ENDPOINT, "a")) == [("eds", {"a"})]


def test_an_unsubscribed_resource_is_not_sent(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    proxy.subscribe(ENDPOINT, "a", "b")
    assert proxy.unsubscribe(ENDPOINT, "a", "never") == []
    assert outline(proxy.change(endpoints("a", 1), endpoints("b", 1))) == [("eds", {"b"})]
    assert outline(proxy.subscribe(ENDPOINT, "a")) == [("eds", {"a"})]


def test_a_name_that_the_wildcard_still_covers_is_sent_again(proxy: DeltaExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    proxy.subscribe(CLUSTER, "*", "a", "gone")
    assert outline(proxy.unsubscribe(CLUSTER, "a")) == [("cds", {"a"})]
    assert outline(proxy.unsubscribe(CLUSTER, "gone")) == [("cds", {"-gone"})]


def test_without_the_wildcard_only_names_remain(proxy: DeltaExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    proxy.subscribe(CLUSTER, "*", "a")
    assert proxy.unsubscribe(CLUSTER, "*") == []
    assert outline(proxy.change(cluster("a", 1), cluster("b", 1))) == [("cds", {"a"})]
    assert outline(proxy.subscribe(CLUSTER, "*")) == [("cds", {"b"})]


def test_an_acknowledgement_covers_all_earlier_nonces(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"))
    proxy.subscribe(ENDPOINT, "a")
    [second] = proxy.change(endpoints("a", 1))
    acks = proxy.stream.watches[ENDPOINT].acks
    proxy.acknowledge(second)
    assert acks.settled
    assert acks.in_flight == {}


def test_a_subscription_counts_even_with_a_stale_nonce(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    proxy.subscribe(ENDPOINT, "a")
    proxy.stream.receive(
        DeltaDiscoveryRequest(type_url=ENDPOINT, response_nonce="no", resource_names_subscribe=["b"]), 0.0
    )
    assert outline(proxy.push()) == [("eds", {"b"})]


def test_accepting_something_else_does_not_mend_a_rejection(proxy: DeltaExchange) -> None:
    proxy.mesh.put(route("a"), route("b"))
    proxy.subscribe(ROUTE, "a", "b")
    proxy.settle()
    [bad] = proxy.change(route("a", 1))
    proxy.acknowledge(bad, error="no such cluster")
    proxy.now += 1
    [other] = proxy.change(route("b", 1))
    proxy.acknowledge(other)
    acks = proxy.stream.watches[ROUTE].acks
    assert acks.rejection is not None
    [good] = proxy.change(route("a", 2))
    proxy.acknowledge(good)
    assert acks.rejection is None


def test_a_rejection_ends_with_the_subscription(proxy: DeltaExchange) -> None:
    proxy.mesh.put(route("a"))
    [bad] = proxy.subscribe(ROUTE, "a")
    proxy.acknowledge(bad, error="no such cluster")
    proxy.unsubscribe(ROUTE, "a")
    assert proxy.stream.watches[ROUTE].acks.rejection is None


def test_a_resource_unsubscribed_during_the_build_is_not_sent(proxy: DeltaExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    proxy.stream.receive(
        DeltaDiscoveryRequest(type_url=ENDPOINT, resource_names_subscribe=["a", "b"]), proxy.now
    )
    demand = proxy.stream.demand(ENDPOINT, proxy.now)
    assert demand is not None
    built = proxy.build(demand)
    proxy.stream.receive(
        DeltaDiscoveryRequest(
            type_url=ENDPOINT, resource_names_unsubscribe=["a"], resource_names_subscribe=["c"]
        ),
        proxy.now,
    )
    assert outline(proxy.stream.respond(demand, built, proxy.now)) == [("eds", {"b"})]
    assert outline(proxy.push()) == [("eds", {"-c"})], (
        "a name that was subscribed during the build is still owed"
    )


def test_too_many_names_in_small_steps_are_rejected(proxy: DeltaExchange) -> None:
    requests = [
        DeltaDiscoveryRequest(
            type_url=ENDPOINT, resource_names_subscribe=map(str, range(start, start + 25_000))
        )
        for start in (0, 25_000, 50_000)
    ]
    for request in requests[:2]:
        proxy.stream.receive(request, 0.0)
    with pytest.raises(ProxyError, match="exceed the limit of 50000"):
        proxy.stream.receive(requests[2], 0.0)
