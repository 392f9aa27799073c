from __future__ import annotations

import pytest
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest

from controlplane.errors import ProxyError
from protos.type_urls import CLUSTER, ENDPOINT, LISTENER, NAME_TABLE, NAME_TABLE_NAME, ROUTE
from tests.support.xds_exchange import SotwExchange, names_in, outline
from tests.support.xds_world import cluster, endpoints, listener, name_table, route


@pytest.fixture
def proxy() -> SotwExchange:
    return SotwExchange()


def test_a_subscription_without_names_means_all_clusters(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    [response] = proxy.subscribe(CLUSTER)
    assert names_in(response) == {"a", "b"}
    assert response.nonce
    assert response.version_info


def test_the_name_table_needs_no_name_and_comes_whole(proxy: SotwExchange) -> None:
    proxy.mesh.put(name_table("10.0.0.1"))
    [response] = proxy.subscribe(NAME_TABLE)
    assert names_in(response) == {NAME_TABLE_NAME}
    proxy.acknowledge(response)
    assert not proxy.push()
    assert outline(proxy.change(name_table("10.0.0.2"))) == [("nds", {NAME_TABLE_NAME})]


def test_names_come_after_the_listeners_that_they_lead_to(proxy: SotwExchange) -> None:
    proxy.mesh.put(name_table("10.0.0.1"), listener("a"))
    for type_url in (NAME_TABLE, LISTENER):
        proxy.say(type_url)
    assert [short for short, _ in outline(proxy.push())] == ["lds", "nds"]


def test_an_explicit_wildcard_can_be_combined_with_names(proxy: SotwExchange) -> None:
    proxy.mesh.put(listener("a"), listener("b"))
    [response] = proxy.subscribe(LISTENER, "*", "a")
    assert names_in(response) == {"a", "b"}


def test_an_empty_subscription_after_names_is_not_a_wildcard(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    [response] = proxy.subscribe(CLUSTER, "a")
    assert names_in(response) == {"a"}
    assert proxy.subscribe(CLUSTER, nonce=response.nonce) == []
    assert proxy.change(cluster("a", 1), cluster("b", 1)) == []


def test_an_empty_route_subscription_selects_no_routes(proxy: SotwExchange) -> None:
    proxy.mesh.put(route("9080"))
    [response] = proxy.subscribe(ROUTE)
    assert names_in(response) == set()


def test_an_acknowledgement_is_not_answered(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"))
    [response] = proxy.subscribe(CLUSTER)
    assert proxy.acknowledge(response) is None
    assert proxy.push() == []
    accepted = proxy.stream.watches[CLUSTER].acks.accepted
    assert accepted is not None
    assert accepted.version == response.version_info


def test_a_repeated_rejection_is_reported_once(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"))
    [response] = proxy.subscribe(CLUSTER)
    assert proxy.acknowledge(response, error="no") is not None
    assert proxy.acknowledge(response, error="no") is None


def test_the_last_resource_is_removed_by_an_empty_state(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), listener("l"))
    for type_url in (CLUSTER, LISTENER):
        proxy.subscribe(type_url)
    proxy.settle()
    proxy.mesh.remove(LISTENER, "l")
    proxy.mesh.remove(CLUSTER, "a")
    proxy.stream.mesh_changed()
    [without_listener] = proxy.push()
    assert (without_listener.type_url, names_in(without_listener)) == (LISTENER, set())
    proxy.acknowledge(without_listener)
    [without_cluster] = proxy.push()
    assert (without_cluster.type_url, names_in(without_cluster)) == (CLUSTER, set())


def test_clusters_are_sent_as_a_whole_when_one_changes(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), cluster("b"))
    [first] = proxy.subscribe(CLUSTER)
    proxy.acknowledge(first)
    [second] = proxy.change(cluster("a", 1))
    assert names_in(second) == {"a", "b"}
    assert second.version_info != first.version_info


def test_nothing_is_sent_when_nothing_changes(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), listener("l"), endpoints("a"), route("r"))
    for type_url, names in ((CLUSTER, ()), (ENDPOINT, ("a",)), (LISTENER, ()), (ROUTE, ("r",))):
        proxy.subscribe(type_url, *names)
    proxy.settle()
    assert proxy.change(cluster("a"), listener("l"), endpoints("a"), route("r")) == []


def test_only_changed_endpoints_are_sent(proxy: SotwExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    [response] = proxy.subscribe(ENDPOINT, "a", "b")
    proxy.acknowledge(response)
    proxy.mesh.put(endpoints("a", 1), endpoints("b", 1))
    proxy.stream.endpoints_changed(["a"])
    [response] = proxy.push()
    assert names_in(response) == {"a"}


def test_added_names_are_sent_and_removed_names_forgotten(proxy: SotwExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    [response] = proxy.subscribe(ENDPOINT, "a")
    [response] = proxy.subscribe(ENDPOINT, "b", nonce=response.nonce)
    assert names_in(response) == {"b"}
    [response] = proxy.subscribe(ENDPOINT, "a", "b", nonce=response.nonce)
    assert names_in(response) == {"a"}


def test_a_stale_nonce_changes_nothing(proxy: SotwExchange) -> None:
    proxy.mesh.put(endpoints("a"), endpoints("b"))
    [first] = proxy.subscribe(ENDPOINT, "a")
    [second] = proxy.change(endpoints("a", 1))
    assert proxy.subscribe(ENDPOINT, "a", "b", nonce=first.nonce) == []
    [third] = proxy.subscribe(ENDPOINT, "a", "b", nonce=second.nonce)
    assert names_in(third) == {"b"}


def test_a_nonce_of_an_earlier_stream_does_not_make_the_first_request_stale(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"))
    [response] = proxy.subscribe(CLUSTER, nonce="other.7")
    assert names_in(response) == {"a"}


def test_a_rejection_keeps_its_reason_and_the_last_good_version(proxy: SotwExchange) -> None:
    proxy.mesh.put(listener("a"))
    [good] = proxy.subscribe(LISTENER)
    proxy.acknowledge(good)
    proxy.now += 1
    [bad] = proxy.change(listener("a", 1))
    proxy.now += 1
    rejection = proxy.acknowledge(bad, error="address is taken")
    assert rejection is not None
    assert rejection.reason == "address is taken"
    acks = proxy.stream.watches[LISTENER].acks
    assert acks.accepted is not None
    assert acks.accepted.version == good.version_info
    assert acks.rejection == rejection
    assert proxy.push() == [], "a rejected resource is not sent again until it changes"
    proxy.now += 1
    [better] = proxy.change(listener("a", 2))
    assert acks.rejection == rejection
    proxy.acknowledge(better)
    assert acks.rejection is None


def test_a_changed_cluster_gets_its_unchanged_endpoints_again(proxy: SotwExchange) -> None:
    # Envoy warms the new cluster and waits for endpoints that it is subscribed to already.
    proxy.mesh.put(cluster("a"), cluster("b"), endpoints("a"), endpoints("b"))
    proxy.subscribe(CLUSTER)
    proxy.subscribe(ENDPOINT, "a", "b")
    proxy.settle()
    assert outline(proxy.change(cluster("a", 1))) == [("cds", {"a", "b"}), ("eds", {"a"})]


def test_a_removed_listener_is_left_out(proxy: SotwExchange) -> None:
    proxy.mesh.put(listener("a"), listener("b"))
    proxy.subscribe(LISTENER)
    proxy.settle()
    assert outline(proxy.remove(LISTENER, "a")) == [("lds", {"b"})]


def test_a_removed_cluster_stays_until_the_routes_that_dropped_it_are_acknowledged(
    proxy: SotwExchange,
) -> None:
    proxy.mesh.put(cluster("old"), route("r"))
    proxy.subscribe(CLUSTER)
    proxy.subscribe(ROUTE, "r")
    proxy.settle()
    proxy.mesh.remove(CLUSTER, "old")
    pushed = proxy.change(cluster("new"), route("r", 1))
    assert outline(pushed) == [("cds", {"old", "new"})]
    proxy.acknowledge(pushed[0])
    pushed = proxy.push()
    assert outline(pushed) == [("rds", {"r"})]
    assert proxy.push() == []
    proxy.acknowledge(pushed[0])
    assert outline(proxy.push()) == [("cds", {"new"})]


def test_a_cluster_that_comes_back_before_it_was_removed_stays(proxy: SotwExchange) -> None:
    proxy.mesh.put(cluster("a"), route("r"))
    proxy.subscribe(CLUSTER)
    proxy.subscribe(ROUTE, "r")
    proxy.settle()
    proxy.mesh.remove(CLUSTER, "a")
    [routes] = proxy.change(route("r", 1))
    assert proxy.change(cluster("a")) == []
    proxy.acknowledge(routes)
    assert proxy.push() == []


def test_large_route_tables_travel_in_several_responses(proxy: SotwExchange) -> None:
    tables = [route(str(number)) for number in range(3)]
    for table in tables:
        table.internal_only_headers.append("x" * 1_500_000)
    proxy.mesh.put(*tables)
    responses = proxy.subscribe(ROUTE, "0", "1", "2")
    assert [len(response.resources) for response in responses] == [1, 1, 1]
    assert len({response.nonce for response in responses}) == 3
    for response in responses:
        assert not proxy.stream.watches[ROUTE].acks.settled
        proxy.acknowledge(response)
    assert proxy.stream.watches[ROUTE].acks.settled


@pytest.mark.parametrize("names", [["x" * 2000], [""], [str(number) for number in range(50_001)]])
def test_invalid_names_are_rejected(proxy: SotwExchange, names: list[str]) -> None:
    with pytest.raises(ProxyError, match="ClusterLoadAssignment"):
        proxy.stream.receive(DiscoveryRequest(type_url=ENDPOINT, resource_names=names), 0.0)
