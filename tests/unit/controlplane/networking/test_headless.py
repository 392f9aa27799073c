"""A client of a headless service chooses one of its endpoints: it must reach that one, over mesh TLS."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_components_pb2 import VirtualHost
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, Resolution, Service, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_endpoints, build_listeners, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import (
    Specs,
    external_service,
    grpc_proxy,
    mesh,
    port,
    service,
    sidecar_proxy,
    workload,
)

KAFKA = "kafka.default.svc.cluster.local"
ES = "es.default.svc.cluster.local"
TCP = port(9092, Protocol.TCP)
HTTP = port(9200)


def headless(name: str, *ports: ServicePort, **fields: Any) -> Service:
    return service(name, *ports, headless=True, **fields)


def stateful(target: Service, count: int = 2, **options: Any) -> MeshSnapshot:
    """Endpoints as the pods of a StatefulSet: ``kafka-0`` at 10.1.0.1, and so on."""
    workloads = [
        workload(target.name, f"10.1.{index // 200}.{index % 200 + 1}", f"v{index}") for index in range(count)
    ]
    others = options.pop("others", ())
    snapshot = mesh((target, workloads), *((each, []) for each in others), **options)
    named = tuple(
        dataclasses.replace(each, hostname=f"{target.name}-{each.workload.name.rpartition('v')[2]}")
        for each in snapshot.endpoints[target.hostname]
    )
    return dataclasses.replace(snapshot, endpoints={**snapshot.endpoints, target.hostname: named})


def tcp(chain: FilterChain) -> TcpProxy:
    proxy = TcpProxy()
    assert chain.filters[0].typed_config.Unpack(proxy)
    return proxy


def listeners(snapshot: MeshSnapshot, **proxy: Any) -> dict[str, Listener]:
    return build_listeners(BuildCache(), snapshot, sidecar_proxy(**proxy))


def clusters(snapshot: MeshSnapshot, **proxy: Any) -> Mapping[str, Cluster]:
    return build_clusters(BuildCache(), snapshot, sidecar_proxy(**proxy))


def hosts(snapshot: MeshSnapshot, name: str, **proxy: Any) -> dict[str, VirtualHost]:
    config = build_routes(BuildCache(), snapshot, sidecar_proxy(**proxy), [name])[name]
    return {each.name: each for each in config.virtual_hosts}


def addresses(assignment: ClusterLoadAssignment) -> list[str]:
    return [
        each.endpoint.address.socket_address.address
        for locality in assignment.endpoints
        for each in locality.lb_endpoints
    ]


class TestRedirectedConnections:
    def test_each_endpoint_has_a_listener_on_its_address(self) -> None:
        built = listeners(stateful(headless("kafka", TCP)))
        for address in ("10.1.0.1", "10.1.0.2"):
            found = built[f"{address}_9092"]
            assert found.address.socket_address.address == address
            assert not found.bind_to_port.value
            (chain,) = found.filter_chains
            assert tcp(chain).cluster == f"outbound|9092||{KAFKA}"
        assert "0.0.0.0_9092" not in built

    @pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.TLS, Protocol.HTTPS, Protocol.UNSUPPORTED])
    def test_another_address_of_the_port_is_not_the_services(self, protocol: Protocol) -> None:
        built = listeners(stateful(headless("kafka", port(9092, protocol)), count=0))
        assert not [name for name in built if name.endswith("_9092")]

    def test_the_cluster_is_the_original_destination_over_mesh_tls(self) -> None:
        found = clusters(stateful(headless("kafka", TCP)))[f"outbound|9092||{KAFKA}"]
        assert (found.type, found.lb_policy) == (Cluster.ORIGINAL_DST, Cluster.CLUSTER_PROVIDED)
        assert found.HasField("transport_socket")
        assert not found.HasField("load_assignment")

    def test_without_a_sidecar_at_every_endpoint_it_is_plaintext(self) -> None:
        snapshot = mesh(
            (
                headless("kafka", TCP),
                [workload("kafka", "10.1.0.1"), workload("kafka", "10.1.0.2", "v2", mesh_tls=False)],
            )
        )
        assert not clusters(snapshot)[f"outbound|9092||{KAFKA}"].HasField("transport_socket")

    def test_an_endpoint_that_is_not_ready_may_be_dialled_too(self) -> None:
        snapshot = mesh((headless("kafka", TCP), [workload("kafka", "10.1.0.1", healthy=False)]))
        assert "10.1.0.1_9092" in listeners(snapshot)

    def test_an_endpoint_whose_address_is_a_name_cannot_be_dialled(self) -> None:
        built = listeners(mesh((headless("kafka", TCP), [workload("kafka", "kafka.example.com")])))
        assert not [name for name in built if name.endswith("_9092")]

    def test_a_port_of_very_many_endpoints_has_one_listener_with_a_chain_for_each(self) -> None:
        snapshot = stateful(headless("kafka", TCP), count=300)
        built = listeners(snapshot)
        assert [name for name in built if name.endswith("_9092")] == ["0.0.0.0_9092"]
        found = built["0.0.0.0_9092"]
        matches = [each.filter_chain_match.prefix_ranges for each in found.filter_chains]
        assert [(each.address_prefix, each.prefix_len.value) for (each,) in matches] == sorted(
            (each.address, 32) for each in snapshot.endpoints[KAFKA]
        )
        assert {tcp(each).cluster for each in found.filter_chains} == {f"outbound|9092||{KAFKA}"}
        assert tcp(found.default_filter_chain).cluster == "PassthroughCluster"

    def test_the_chains_of_very_many_endpoints_stay_when_one_of_them_goes(self) -> None:
        """A proxy drains the connections of a chain that is not there any more."""
        snapshot = stateful(headless("kafka", TCP), count=300)
        others = tuple(each for each in snapshot.endpoints[KAFKA] if each.address != "10.1.0.7")
        after = dataclasses.replace(snapshot, endpoints={KAFKA: others})
        old, new = (listeners(each)["0.0.0.0_9092"].filter_chains for each in (snapshot, after))
        (gone,) = [each for each in old if each not in new]
        assert gone.filter_chain_match.prefix_ranges[0].address_prefix == "10.1.0.7"
        assert [each for each in old if each is not gone] == list(new)

    @pytest.mark.parametrize("count", [2, 300])
    def test_a_route_for_some_of_the_addresses_is_followed(self, count: int) -> None:
        to = "reviews.default.svc.cluster.local"
        elsewhere = [{"destination": {"host": to, "port": {"number": 9080}}}]
        rules = [{"match": [{"destinationSubnets": ["10.1.0.2"], "port": 9092}], "route": elsewhere}]
        snapshot = stateful(
            headless("kafka", TCP),
            count=count,
            others=[service("reviews", port(9080, Protocol.TCP))],
            virtual_services={"kafka": {"hosts": [KAFKA], "tcp": rules}},
        )
        built = listeners(snapshot)
        name = "10.1.0.2_9092" if count == 2 else "0.0.0.0_9092"
        leads_to = {}
        for chain in built[name].filter_chains:
            for each in chain.filter_chain_match.prefix_ranges:
                leads_to[each.address_prefix] = tcp(chain).cluster
        assert leads_to["10.1.0.2"] == f"outbound|9080||{to}"
        assert leads_to.get("10.1.0.1") == (None if count == 2 else f"outbound|9092||{KAFKA}")

    def test_two_headless_services_of_one_port_are_distinguished(self) -> None:
        snapshot = mesh(
            (headless("kafka", TCP), [workload("kafka", "10.1.0.1")]),
            (headless("redpanda", TCP), [workload("redpanda", "10.1.0.2")]),
        )
        built = listeners(snapshot)
        for address, name in (("10.1.0.1", "kafka"), ("10.1.0.2", "redpanda")):
            (chain,) = built[f"{address}_9092"].filter_chains
            assert tcp(chain).cluster == f"outbound|9092||{name}.default.svc.cluster.local"

    def test_a_service_that_is_not_imported_has_no_listeners(self) -> None:
        snapshot = stateful(headless("kafka", TCP), sidecars={"none": {"egress": [{"hosts": ["~/*"]}]}})
        assert not [name for name in listeners(snapshot) if name.endswith("_9092")]

    def test_they_stay_the_same_when_other_endpoints_change(self) -> None:
        snapshot = stateful(headless("kafka", TCP), others=[service("reviews")])
        changed = dataclasses.replace(snapshot, endpoints={**snapshot.endpoints})
        cache = BuildCache()
        first = build_listeners(cache, snapshot, sidecar_proxy())
        second = build_listeners(cache, changed, sidecar_proxy(app="other"))
        assert first["10.1.0.1_9092"] is second["10.1.0.1_9092"]


class TestRedirectedRequests:
    def test_the_hosts_of_single_endpoints_are_the_services(self) -> None:
        found = hosts(stateful(headless("es", HTTP)), "9200")[f"{ES}:9200"]
        names = [ES, f"{ES}.", "es.default", "es.default.svc"]
        for name in (*(f"*.{each}" for each in names), "es-0.es", "es-1.es", *names, "es"):
            assert {name, f"{name}:9200"} <= set(found.domains)
        assert "*.es" not in found.domains  # a top level domain
        assert found.routes[0].route.cluster == f"outbound|9200||{ES}"

    def test_the_hosts_below_another_service_are_not_its_own(self) -> None:
        found = hosts(mesh((service("es", HTTP), [])), "9200")[f"{ES}:9200"]
        assert not [name for name in found.domains if name.startswith("*")]

    def test_they_go_to_the_address_that_the_client_dialled(self) -> None:
        snapshot = stateful(headless("es", HTTP))
        assert clusters(snapshot)[f"outbound|9200||{ES}"].type == Cluster.ORIGINAL_DST
        assert "0.0.0.0_9200" in listeners(snapshot)
        assert "10.1.0.1_9200" not in listeners(snapshot)

    def test_a_virtual_service_rules_them_too(self) -> None:
        rules: Specs = {"es": {"hosts": [ES], "http": [{"directResponse": {"status": 418}}]}}
        found = hosts(stateful(headless("es", HTTP), virtual_services=rules), "9200")[f"{ES}:9200"]
        assert found.routes[0].direct_response.status == 418

    def test_requests_routed_from_another_host_are_balanced(self) -> None:
        """It was addressed to that host: its original destination is not an endpoint."""
        web = service("web", port(80), addresses=("10.96.0.1",))
        rules: Specs = {
            "web": {"hosts": [web.hostname], "http": [{"route": [{"destination": {"host": ES}}]}]}
        }
        snapshot = stateful(headless("es", HTTP), others=[web], virtual_services=rules)
        (route,) = hosts(snapshot, "80")[f"{web.hostname}:80"].routes
        assert route.route.cluster == f"balanced|9200||{ES}"
        balanced = clusters(snapshot)[route.route.cluster]
        assert balanced.type == Cluster.EDS
        name = balanced.eds_cluster_config.service_name
        assert addresses(build_endpoints(BuildCache(), snapshot, sidecar_proxy(), [name])[name]) == [
            "10.1.0.1",
            "10.1.0.2",
        ]

    def test_connections_routed_from_another_service_are_balanced(self) -> None:
        db = service("db", port(9092, Protocol.TCP), addresses=("10.96.0.1",))
        rules: Specs = {
            "db": {"hosts": [db.hostname], "tcp": [{"route": [{"destination": {"host": KAFKA}}]}]}
        }
        snapshot = stateful(headless("kafka", TCP), others=[db], virtual_services=rules)
        (chain,) = listeners(snapshot)["10.96.0.1_9092"].filter_chains
        assert tcp(chain).cluster == f"balanced|9092||{KAFKA}"

    def test_so_is_a_subset_that_a_route_asks_for(self) -> None:
        subset = {"name": "v1", "labels": {"version": "v1"}}
        to_subset = {"destination": {"host": ES, "subset": "v1"}}
        snapshot = stateful(
            headless("es", HTTP),
            virtual_services={"es": {"hosts": [ES], "http": [{"route": [to_subset]}]}},
            destination_rules={"es": {"host": ES, "subsets": [subset]}},
        )
        (route,) = hosts(snapshot, "9200")[f"{ES}:9200"].routes
        assert clusters(snapshot)[route.route.cluster].type == Cluster.EDS


@pytest.mark.parametrize("mode", [InterceptionMode.NONE, InterceptionMode.REDIRECT])
class TestExplicitProxy:
    """Without an original destination, the host name selects the endpoint."""

    def proxy(self, mode: InterceptionMode) -> dict[str, Any]:
        return {"interception_mode": mode, "http_proxy_port": 15080}

    def test_the_host_of_an_endpoint_leads_to_it_alone(self, mode: InterceptionMode) -> None:
        snapshot = stateful(headless("kafka", TCP, HTTP))
        built = clusters(snapshot, **self.proxy(mode))
        for index, address in enumerate(("10.1.0.1", "10.1.0.2")):
            own = f"kafka-{index}.{KAFKA}"
            for number in (9092, 9200):
                found = hosts(snapshot, "http_proxy", **self.proxy(mode))[f"{own}:{number}"]
                domains = (own, f"{own}.", f"kafka-{index}.kafka", f"kafka-{index}.kafka.default.svc")
                assert {f"{name}:{number}" for name in domains} <= set(found.domains)
                names = {route.route.cluster for route in found.routes}
                assert names == {f"outbound|{number}||{own}"}
                cluster = built[names.pop()]
                assert cluster.type == Cluster.STATIC
                assert addresses(cluster.load_assignment) == [address]
                assert cluster.transport_socket_matches
                assert not cluster.HasField("eds_cluster_config")

    def test_the_services_own_host_is_balanced(self, mode: InterceptionMode) -> None:
        snapshot = stateful(headless("es", HTTP))
        found = hosts(snapshot, "http_proxy", **self.proxy(mode))[f"{ES}:9200"]
        assert not [name for name in found.domains if name.startswith("*")]
        for route in found.routes:
            assert clusters(snapshot, **self.proxy(mode))[route.route.cluster].type == Cluster.EDS

    def test_a_virtual_service_rules_the_hosts_of_endpoints_too(self, mode: InterceptionMode) -> None:
        own = {"match": [{"uri": {"prefix": "/own"}}], "route": [{"destination": {"host": ES}}]}
        rules: Specs = {"es": {"hosts": [ES], "http": [own, {"directResponse": {"status": 418}}]}}
        snapshot = stateful(headless("es", HTTP), virtual_services=rules)
        found = hosts(snapshot, "http_proxy", **self.proxy(mode))[f"es-0.{ES}:9200"]
        connect, own_route, answer = found.routes
        assert connect.route.cluster == own_route.route.cluster == f"outbound|9200||es-0.{ES}"
        assert answer.direct_response.status == 418

    def test_a_passthrough_rule_does_not_apply_to_a_single_endpoint(self, mode: InterceptionMode) -> None:
        rule: Specs = {"es": {"host": ES, "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}}
        snapshot = stateful(headless("es", HTTP), destination_rules=rule)
        found = clusters(snapshot, **self.proxy(mode))[f"outbound|9200||es-0.{ES}"]
        assert (found.type, found.lb_policy) == (Cluster.STATIC, Cluster.ROUND_ROBIN)

    def test_an_endpoint_gets_mesh_tls_independently_of_the_others(self, mode: InterceptionMode) -> None:
        """As the rule says of the service that connections pass through, the sidecar does not know the
        endpoint."""
        rule: Specs = {"es": {"host": ES, "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}}
        snapshot = stateful(headless("es", HTTP), destination_rules=rule)
        first, second = snapshot.endpoints[ES]
        plain = dataclasses.replace(second, workload=dataclasses.replace(second.workload, mesh_tls=False))
        built = clusters(dataclasses.replace(snapshot, endpoints={ES: (first, plain)}), **self.proxy(mode))
        found = built[f"outbound|9200||es-0.{ES}"]
        assert [each.name for each in found.transport_socket_matches] == ["tlsMode-istio", "tlsMode-disabled"]
        matching = [
            "envoy.transport_socket_match" in each.metadata.filter_metadata
            for index in (0, 1)
            for each in built[f"outbound|9200||es-{index}.{ES}"].load_assignment.endpoints[0].lb_endpoints
        ]
        assert matching == [True, False]

    def test_a_host_that_is_declared_is_not_an_endpoints(self, mode: InterceptionMode) -> None:
        declared = external_service(f"es-0.{ES}", HTTP, resolution=Resolution.STATIC, mesh_external=False)
        rules: Specs = {"es-0": {"hosts": [declared.hostname], "http": [{"directResponse": {"status": 418}}]}}
        snapshot = stateful(headless("es", HTTP), others=[declared], virtual_services=rules)
        built = clusters(snapshot, **self.proxy(mode))
        assert built[f"outbound|9200||es-0.{ES}"].type == Cluster.EDS
        assert built[f"outbound|9200||es-1.{ES}"].type == Cluster.STATIC
        config = build_routes(BuildCache(), snapshot, sidecar_proxy(**self.proxy(mode)), ["http_proxy"])[
            "http_proxy"
        ]
        (found,) = [each for each in config.virtual_hosts if declared.hostname in each.domains]
        assert found.routes[-1].direct_response.status == 418

    @pytest.mark.parametrize("host", [f"es-0.{ES}", f"*.{ES}"])
    def test_so_is_a_host_of_which_a_virtual_service_speaks(self, mode: InterceptionMode, host: str) -> None:
        """It is not declared, so its port is 80."""
        rules: Specs = {"pods": {"hosts": [host], "http": [{"directResponse": {"status": 418}}]}}
        snapshot = stateful(headless("es", port(80), port(9200, name="more")), virtual_services=rules)
        proxy = sidecar_proxy(**self.proxy(mode))
        names = ["http_proxy", "80"] if mode is InterceptionMode.REDIRECT else ["http_proxy"]
        for config in build_routes(BuildCache(), snapshot, proxy, names).values():
            by_domain = {domain: each for each in config.virtual_hosts for domain in each.domains}
            found = by_domain.get(f"es-0.{ES}:80") or by_domain[f"*.{ES}:80"]
            assert found.routes[-1].direct_response.status == 418


def test_without_interception_and_explicit_proxy_nothing_is_by_address() -> None:
    built = clusters(stateful(headless("es", HTTP)), interception_mode=InterceptionMode.NONE)
    assert built[f"outbound|9200||{ES}"].type == Cluster.EDS
    assert not [name for name in built if name.startswith("balanced|") or "es-0" in name]


def test_a_client_of_grpc_balances() -> None:
    cache = BuildCache()
    snapshot = stateful(headless("es", HTTP))
    name = f"outbound|9200||{ES}"
    assert (
        build_routes(cache, snapshot, grpc_proxy(), [name])[name].virtual_hosts[0].routes[0].route.cluster
        == name
    )
    assert build_clusters(cache, snapshot, grpc_proxy(), [name])[name].type == Cluster.EDS
