from __future__ import annotations

from typing import Any

from controlplane.model.service import Protocol
from controlplane.networking import scope_of
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.l4_routes import L4Route, l4_routes
from tests.support.meshes import external_service, mesh, port, service, sidecar_proxy

DB = "db.default.svc.cluster.local"
OWN = f"outbound|3306||{DB}"


def routes(protocol: Protocol = Protocol.TCP, **spec: Any) -> list[L4Route]:
    target = service("db", port(3306, protocol))
    virtual_services = {"db": {"hosts": [DB], **spec}} if spec else None
    snapshot = mesh((target, []), virtual_services=virtual_services)
    return l4_routes(
        scope_of(BuildCache(), snapshot, sidecar_proxy()), target, target.ports[0], dialled=target.hostname
    )


def to(subset: str, weight: int = 0) -> dict[str, Any]:
    return {"destination": {"host": DB, "subset": subset}, "weight": weight}


def test_without_virtual_service_connections_go_to_the_service() -> None:
    assert routes() == [L4Route(clusters=((OWN, 1),))]


def test_tcp_routes_share_connections_by_weight() -> None:
    (found,) = routes(tcp=[{"route": [to("v1", 80), to("v2", 20), to("v3", 0)]}])
    assert found.clusters == ((f"outbound|3306|v1|{DB}", 80), (f"outbound|3306|v2|{DB}", 20))


def test_a_tcp_route_for_a_subnet_leaves_the_rest_to_the_service() -> None:
    found = routes(tcp=[{"match": [{"destinationSubnets": ["10.1.0.0/16"]}], "route": [to("v1")]}])
    assert [(each.subnets, each.clusters[0][0]) for each in found] == [
        (("10.1.0.0/16",), f"outbound|3306|v1|{DB}"),
        ((), OWN),
    ]


def test_a_route_for_another_port_does_not_count() -> None:
    assert routes(tcp=[{"match": [{"port": 3307}], "route": [to("v1")]}]) == routes()


def test_a_match_for_a_gateway_is_left_out() -> None:
    subnets = {"destinationSubnets": ["10.1.0.0/16"]}
    match = [{"gateways": ["public"]}, {"gateways": ["public", "mesh"], **subnets}]
    found = routes(tcp=[{"match": match, "route": [to("v1")]}])
    assert [each.subnets for each in found] == [("10.1.0.0/16",), ()]
    only = [{"match": [{"sniHosts": [DB], "gateways": ["public"]}], "route": [to("v1")]}]
    assert routes(Protocol.TLS, tls=only) == routes(Protocol.TLS)


def test_tls_routes_go_by_server_name() -> None:
    found = routes(Protocol.TLS, tls=[{"match": [{"sniHosts": [DB]}], "route": [to("v1")]}])
    assert [each.server_names for each in found] == [(DB,), ()]


def test_a_server_name_that_a_more_specific_virtual_service_has_is_left_to_it() -> None:
    """``*.example.com`` covers it, and does not decide about it."""
    broad = {"match": [{"sniHosts": ["a.example.com", "b.example.com"]}], "route": [to("v1")]}
    narrow = {"match": [{"sniHosts": ["a.example.com"]}], "route": [to("v2")]}
    target = external_service("b.example.com", port(443, Protocol.TLS))
    snapshot = mesh(
        (target, []),
        virtual_services={
            "broad": {"hosts": ["*.example.com"], "tls": [broad]},
            "narrow": {"hosts": ["a.example.com"], "tls": [narrow]},
        },
    )
    found = l4_routes(
        scope_of(BuildCache(), snapshot, sidecar_proxy()), target, target.ports[0], dialled=target.hostname
    )
    assert [each.server_names for each in found] == [("b.example.com",), ()]


def test_tcp_routes_are_not_for_tls_ports_nor_the_other_way_round() -> None:
    tls = [{"match": [{"sniHosts": [DB]}], "route": [to("v1")]}]
    assert routes(Protocol.TLS, tcp=[{"route": [to("v1")]}]) == routes(Protocol.TLS)
    assert routes(Protocol.TCP, tls=tls) == routes()
