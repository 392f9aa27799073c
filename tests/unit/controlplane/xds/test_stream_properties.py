"""For any changes of the mesh and any delay of the proxy's answers: the proxy ends up with the current
resources, and never has a route to a cluster that it has not received yet or has already removed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.type_urls import CLUSTER, ENDPOINT, PUSH_ORDER, ROUTE
from tests.support.xds_exchange import DeltaExchange, SotwExchange, names_in
from tests.support.xds_world import MESSAGE_TYPES, cluster, endpoints, name_of, route

Exchange = SotwExchange | DeltaExchange
CLUSTERS = ("a", "b", "c", "d")

# A state of the mesh: each cluster's content by name. The route refers to all clusters.
meshes = st.dictionaries(st.sampled_from(CLUSTERS), st.integers(0, 2))
# A step: a new state of the mesh, or the number of the proxy's requests that the control plane receives.
steps = st.lists(st.one_of(meshes, st.integers(1, 3)), max_size=25)


class ModelProxy:
    """Applies responses at once, but acknowledges them later: its requests wait in ``unheard``."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.held: dict[str, dict[str, Any]] = {type_url: {} for type_url in PUSH_ORDER}
        self.unheard: list[Any] = []
        self.followed: set[str] = set()
        self.last_nonce = ""

    def take(self, response: Any) -> None:
        type_url = response.type_url
        fresh = _resources(response)
        if isinstance(self.exchange, SotwExchange) and type_url == CLUSTER:
            self.held[type_url].clear()
        for name in getattr(response, "removed_resources", ()):
            self.held[type_url].pop(name, None)
        self.held[type_url].update(fresh)
        self.check()
        if type_url == ENDPOINT:
            self.last_nonce = response.nonce
        if type_url == CLUSTER:
            self.follow_endpoints()
        self.unheard.append(lambda: self.exchange.acknowledge(response))

    def follow_endpoints(self) -> None:
        """Like Envoy, it subscribes to the endpoints of its clusters before it acknowledges the clusters."""
        wanted = set(self.held[CLUSTER])
        if wanted == self.followed:
            return
        added, dropped = wanted - self.followed, self.followed - wanted
        self.followed = wanted
        for name in dropped:
            self.held[ENDPOINT].pop(name, None)
        exchange = self.exchange
        if isinstance(exchange, SotwExchange):
            nonce = self.last_nonce
            exchange.names[ENDPOINT] = sorted(wanted)
            self.unheard.append(lambda: exchange.say(ENDPOINT, *sorted(wanted), nonce=nonce))
        else:
            self.unheard.append(lambda: exchange.say(ENDPOINT, subscribe=added, unsubscribe=dropped))

    def check(self) -> None:
        for used in self.held[ROUTE].values():
            missing = set(used.internal_only_headers) - self.held[CLUSTER].keys()
            assert not missing, f"a route leads to {missing}"


def _resources(response: Any) -> dict[str, Any]:
    parse = MESSAGE_TYPES[response.type_url].FromString
    bodies = [getattr(each, "resource", each).value for each in response.resources]
    return {name_of(message): message for message in map(parse, bodies)}


def become(exchange: Exchange, mesh: dict[str, int]) -> None:
    exchange.mesh.resources[CLUSTER] = {name: cluster(name, content) for name, content in mesh.items()}
    exchange.mesh.resources[ENDPOINT] = {name: endpoints(name, content) for name, content in mesh.items()}
    table = route("r")
    table.internal_only_headers[:] = sorted(mesh)
    exchange.mesh.resources[ROUTE] = {"r": table}
    exchange.stream.mesh_changed()


@pytest.mark.parametrize("kind", [SotwExchange, DeltaExchange])
@given(first=meshes, steps=steps)
@settings(max_examples=150)
def test_a_proxy_ends_up_with_the_mesh_and_never_misses_a_cluster(
    kind: type[Exchange], first: dict[str, int], steps: list[dict[str, int] | int]
) -> None:
    exchange = kind()
    proxy = ModelProxy(exchange)
    become(exchange, first)
    for response in (*exchange.subscribe(CLUSTER), *exchange.subscribe(ROUTE, "r")):
        proxy.take(response)

    def hear(count: int) -> None:
        for say in proxy.unheard[:count]:
            say()
        del proxy.unheard[:count]

    def push() -> None:
        exchange.now += 0.001
        for response in exchange.push():
            proxy.take(response)

    mesh = first
    for step in steps:
        if isinstance(step, int):
            hear(step)
        else:
            mesh = step
            become(exchange, mesh)
        push()
    while proxy.unheard or exchange.stream.has_work(exchange.now):
        hear(1)
        push()

    for type_url in (CLUSTER, ENDPOINT, ROUTE):
        assert proxy.held[type_url] == exchange.mesh.resources[type_url]
    assert all(watch.acks.settled for watch in exchange.stream.watches.values())
    assert exchange.stream.wake_at(exchange.now) is None


def test_the_model_proxy_sees_a_route_to_nowhere() -> None:
    exchange = DeltaExchange()
    proxy = ModelProxy(exchange)
    become(exchange, {"a": 0})
    [response] = exchange.subscribe(ROUTE, "r")
    assert names_in(response) == {"r"}
    with pytest.raises(AssertionError, match="a route leads to"):
        proxy.take(response)
