from __future__ import annotations

from typing import Any

from envoy.config.route.v3.route_components_pb2 import Route, VirtualHost
from envoy.config.route.v3.route_pb2 import RouteConfiguration

from controlplane.model.service import Protocol
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_routes
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import external_service, mesh, port, service, sidecar_proxy

REVIEWS = "reviews.default.svc.cluster.local"


def config(snapshot: MeshSnapshot, name: str = "9080", **proxy: Any) -> RouteConfiguration:
    return build_routes(BuildCache(), snapshot, sidecar_proxy(**proxy), [name])[name]


def host(snapshot: MeshSnapshot, name: str, route_config: str = "9080", **proxy: Any) -> VirtualHost:
    (found,) = (each for each in config(snapshot, route_config, **proxy).virtual_hosts if each.name == name)
    return found


def connect_cluster(found: VirtualHost) -> str:
    route = found.routes[0]
    assert route.match.HasField("connect_matcher")
    (upgrade,) = route.route.upgrade_configs
    assert upgrade.upgrade_type == "CONNECT"
    assert upgrade.HasField("connect_config")  # the payload goes out as raw TCP
    return str(route.route.cluster)


def test_domains_are_every_name_that_dns_search_would_find() -> None:
    snapshot = mesh((service("reviews", addresses=("10.9.0.1", "fd00::1", "10.8.0.0/16")), []))
    names = [
        REVIEWS,
        f"{REVIEWS}.",
        "reviews",
        "reviews.default",
        "reviews.default.svc",
        "10.9.0.1",
        "[fd00::1]",
    ]
    domains = host(snapshot, f"{REVIEWS}:9080").domains
    assert sorted(domains) == sorted([*names, *(f"{name}:9080" for name in names)])


def test_an_address_that_a_service_has_twice_is_one_domain() -> None:
    snapshot = mesh((service("reviews", addresses=("10.9.0.1", "10.9.0.1")), []))
    domains = list(host(snapshot, f"{REVIEWS}:9080").domains)
    assert domains.count("10.9.0.1") == 1


def test_an_address_that_two_services_have_is_the_kubernetes_services_then_the_older_ones() -> None:
    address = ("10.96.0.7",)
    entry = external_service("a.example.com", port(9080), addresses=address, creation="2023")
    newer = service("details", addresses=address, creation="2025")
    older = service("reviews", addresses=address, creation="2024")
    for name in ("9080", "http_proxy"):
        found = config(mesh((entry, []), (newer, []), (older, [])), name)
        (owner,) = [each.name for each in found.virtual_hosts if "10.96.0.7:9080" in each.domains]
        assert owner == f"{REVIEWS}:9080"


def test_the_bare_name_is_for_the_own_namespace() -> None:
    snapshot = mesh((service("reviews"), []))
    domains = host(snapshot, f"{REVIEWS}:9080", namespace="other").domains
    assert "reviews" not in domains
    assert "reviews.default" in domains


def test_a_wildcard_service() -> None:
    snapshot = mesh((external_service("*.example.com", port(80)), []))
    domains = ["*.example.com", "*.example.com:80", "*.example.com.", "*.example.com.:80"]
    assert list(host(snapshot, "*.example.com:80", "80").domains) == domains


def test_domains_are_unique_and_full_names_take_precedence() -> None:
    snapshot = mesh(
        (service("reviews"), []),
        (external_service("reviews.default", port(9080)), []),
        (external_service("reviews", port(9080)), []),
    )
    for name in ("9080", "http_proxy"):
        domains = [domain for each in config(snapshot, name).virtual_hosts for domain in each.domains]
        assert len(domains) == len(set(domains))
    names = ("reviews.default", "reviews.default.")
    domains = [domain for name in names for domain in (name, f"{name}:9080")]
    assert list(host(snapshot, "reviews.default:9080").domains) == domains


def test_a_host_is_known_with_its_final_dot_but_an_address_has_none() -> None:
    snapshot = mesh(
        (external_service("api.example.com", port(80)), []),
        (external_service("192.0.2.1", port(80)), []),
        virtual_services={
            "undeclared": {"hosts": ["shop.example.com"], "http": [{"directResponse": {"status": 418}}]}
        },
    )
    for name in ("80", "http_proxy"):
        for known in ("api.example.com", "shop.example.com"):
            assert {f"{known}.", f"{known}.:80"} <= set(host(snapshot, f"{known}:80", name).domains)
        assert list(host(snapshot, "192.0.2.1:80", name).domains) == ["192.0.2.1", "192.0.2.1:80"]


def test_only_http_ports_of_the_number_are_there() -> None:
    snapshot = mesh(
        (service("reviews", port(9080), port(9443, Protocol.TLS)), []),
        (service("ratings", port(8080)), []),
        (service("db", port(9080, Protocol.TCP)), []),
    )
    names = [each.name for each in config(snapshot).virtual_hosts]
    assert names == [f"{REVIEWS}:9080", "allow_any"]


def test_unknown_hosts_pass_through() -> None:
    found = host(mesh(), "allow_any")
    (route,) = found.routes
    assert list(found.domains) == ["*"]
    assert route.route.cluster == "PassthroughCluster"
    assert route.route.HasField("timeout")


def test_unknown_hosts_are_refused() -> None:
    found = host(mesh(allow_any_outbound=False), "block_all")
    (route,) = found.routes
    assert list(found.domains) == ["*"]
    assert route.direct_response.status == 502


def test_other_names_do_not_exist() -> None:
    assert build_routes(BuildCache(), mesh(), sidecar_proxy(), ["nope", "inbound|9080||", "²"]) == {}


def test_a_virtual_service_for_a_wildcard_routes_the_services_under_it() -> None:
    snapshot = mesh(
        (external_service("api.example.com", port(80)), []),
        virtual_services={"all": {"hosts": ["*.example.com"], "http": [{"directResponse": {"status": 418}}]}},
    )
    assert host(snapshot, "api.example.com:80", "80").routes[0].direct_response.status == 418


def test_a_wildcard_that_services_answer_to_routes_nothing_else() -> None:
    snapshot = mesh(
        (external_service("api.example.com", port(80)), []),
        virtual_services={"all": {"hosts": ["*.example.com"], "http": [{"directResponse": {"status": 418}}]}},
    )
    assert [each.name for each in config(snapshot, "80").virtual_hosts] == ["api.example.com:80", "allow_any"]


def test_a_virtual_service_for_another_port_leaves_requests_alone() -> None:
    match = {"match": [{"port": 8080}], "directResponse": {"status": 418}}
    snapshot = mesh(
        (service("reviews", port(8080), port(9080, name="http-b")), []),
        virtual_services={"reviews": {"hosts": [REVIEWS], "http": [match]}},
    )
    (route,) = host(snapshot, f"{REVIEWS}:9080").routes
    assert route.route.cluster == f"outbound|9080||{REVIEWS}"
    assert host(snapshot, f"{REVIEWS}:8080", "8080").routes[0].direct_response.status == 418


def test_a_virtual_service_for_an_undeclared_host_serves_port_80() -> None:
    snapshot = mesh(
        (service("reviews"), []),
        virtual_services={
            "alias": {
                "hosts": ["shop.example.com"],
                "http": [{"route": [{"destination": {"host": REVIEWS}}]}],
            }
        },
    )
    for name in ("80", "http_proxy"):
        found = host(snapshot, "shop.example.com:80", name)
        names = ("shop.example.com", "shop.example.com.")
        assert list(found.domains) == [domain for name in names for domain in (name, f"{name}:80")]
        assert found.routes[0].route.cluster == f"outbound|9080||{REVIEWS}"


def test_virtual_services_without_http_routes_leave_requests_alone() -> None:
    tcp = {"hosts": [REVIEWS], "tcp": [{"route": [{"destination": {"host": REVIEWS, "subset": "v9"}}]}]}
    snapshot = mesh((service("reviews"), []), virtual_services={"tcp": tcp})
    (route,) = host(snapshot, f"{REVIEWS}:9080").routes
    assert route.route.cluster == f"outbound|9080||{REVIEWS}"


class TestExplicitProxy:
    def test_every_port_is_there_with_its_number(self) -> None:
        snapshot = mesh((service("reviews", port(8080), port(80, name="http-b")), []))
        first = host(snapshot, f"{REVIEWS}:8080", "http_proxy").domains
        second = host(snapshot, f"{REVIEWS}:80", "http_proxy").domains
        assert "reviews:8080" in first
        assert "reviews" not in first
        assert {"reviews", "reviews:80"} <= set(second)

    def test_a_name_without_port_is_the_only_ports(self) -> None:
        snapshot = mesh((service("reviews"), []))
        domains = host(snapshot, f"{REVIEWS}:9080", "http_proxy").domains
        assert {"reviews", "reviews:9080"} <= set(domains)

    def test_a_name_without_port_is_the_first_ports_that_takes_requests(self) -> None:
        snapshot = mesh((service("reviews", port(3306, Protocol.TCP), port(8080)), []))
        assert "reviews" in host(snapshot, f"{REVIEWS}:8080", "http_proxy").domains
        assert "reviews" not in host(snapshot, f"{REVIEWS}:3306", "http_proxy").domains

    def test_connect_reaches_an_http_service_as_raw_tcp_for_all_routes(self) -> None:
        redirect = {"hosts": [REVIEWS], "http": [{"redirect": {"uri": "/elsewhere"}}]}
        snapshot = mesh((service("reviews"), []), virtual_services={"reviews": redirect})
        found = host(snapshot, f"{REVIEWS}:9080", "http_proxy")
        assert connect_cluster(found) == f"outbound|9080||{REVIEWS}"
        assert found.routes[1].HasField("redirect")

    def test_a_tcp_service_takes_connect_only(self) -> None:
        snapshot = mesh((service("db", port(3306, Protocol.TCP)), []))
        found = host(snapshot, "db.default.svc.cluster.local:3306", "http_proxy")
        assert connect_cluster(found) == "outbound|3306||db.default.svc.cluster.local"
        assert len(found.routes) == 1

    def test_connect_follows_tcp_routes(self) -> None:
        name = "db.default.svc.cluster.local"
        shares = [
            {"destination": {"host": name, "subset": version}, "weight": weight}
            for version, weight in (("v1", 80), ("v2", 20))
        ]
        snapshot = mesh(
            (service("db", port(3306, Protocol.TCP)), []),
            virtual_services={"db": {"hosts": [name], "tcp": [{"route": shares}]}},
        )
        (route,) = host(snapshot, f"{name}:3306", "http_proxy").routes
        weighted = [(each.name, each.weight.value) for each in route.route.weighted_clusters.clusters]
        assert weighted == [(f"outbound|3306|v1|{name}", 80), (f"outbound|3306|v2|{name}", 20)]

    def test_connect_follows_the_tls_route_of_the_host(self) -> None:
        def to(subset: str) -> list[dict[str, Any]]:
            return [{"destination": {"host": "api.example.com", "subset": subset}}]

        snapshot = mesh(
            (external_service("api.example.com", port(443, Protocol.TLS)), []),
            virtual_services={
                "api": {
                    "hosts": ["api.example.com", "*.example.com", "other.example.org"],
                    "tls": [
                        {"match": [{"sniHosts": ["other.example.org"]}], "route": to("other")},
                        {"match": [{"sniHosts": ["*.example.com"]}], "route": to("own")},
                    ],
                }
            },
        )
        found = host(snapshot, "api.example.com:443", "http_proxy")
        assert connect_cluster(found) == "outbound|443|own|api.example.com"

    def test_a_port_of_unknown_protocol_takes_both(self) -> None:
        snapshot = mesh((service("reviews", port(9080, Protocol.UNSUPPORTED)), []))
        connect, default = host(snapshot, f"{REVIEWS}:9080", "http_proxy").routes
        assert connect.match.HasField("connect_matcher")
        assert default.route.cluster == f"outbound|9080||{REVIEWS}"

    def test_unknown_hosts_pass_through_with_connect_too(self) -> None:
        found = host(mesh(), "allow_any", "http_proxy")
        assert connect_cluster(found) == "PassthroughCluster"
        assert found.routes[1].route.cluster == "PassthroughCluster"

    def test_unknown_hosts_are_refused_with_connect_too(self) -> None:
        found = host(mesh(allow_any_outbound=False), "block_all", "http_proxy")
        matched = [each.match.WhichOneof("path_specifier") for each in found.routes]
        assert matched == ["connect_matcher", "prefix"]
        assert {each.direct_response.status for each in found.routes} == {502}


def test_every_route_forwards_to_a_cluster_that_exists_for_the_proxy() -> None:
    snapshot = mesh(
        (service("reviews", port(9080), port(9443, Protocol.TLS)), []),
        (service("db", port(3306, Protocol.TCP), namespace="other"), []),
        (external_service("*.example.com", port(443, Protocol.TLS)), []),
    )
    known = build_clusters(BuildCache(), snapshot, sidecar_proxy())

    def clusters(route: Route) -> list[str]:
        weighted = [each.name for each in route.route.weighted_clusters.clusters]
        return weighted or [route.route.cluster]

    used = {
        cluster
        for name in ("9080", "http_proxy")
        for each in config(snapshot, name).virtual_hosts
        for route in each.routes
        for cluster in clusters(route)
    }
    assert used <= known.keys()
