from __future__ import annotations

from datetime import timedelta
from typing import Any

from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, Resolution, Service
from controlplane.networking import build_listeners
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import external_service, mesh, port, service, sidecar_proxy

TLS = Protocol.TLS
TCP = Protocol.TCP


def listeners(*services: Service, **options: Any) -> dict[str, Listener]:
    return build_listeners(BuildCache(), mesh(*((each, []) for each in services), **options), sidecar_proxy())


def tcp(chain: FilterChain) -> TcpProxy:
    proxy = TcpProxy()
    assert chain.filters[0].typed_config.Unpack(proxy)
    return proxy


def http(chain: FilterChain) -> HttpConnectionManager:
    manager = HttpConnectionManager()
    assert chain.filters[0].typed_config.Unpack(manager)
    return manager


def test_redirected_connections_arrive_at_the_virtual_outbound_listener() -> None:
    found = listeners()["virtualOutbound"]
    address = found.address.socket_address
    assert (address.address, address.port_value) == ("0.0.0.0", 15001)
    assert found.use_original_dst.value
    assert tcp(found.default_filter_chain).cluster == "PassthroughCluster"


def test_who_dials_its_port_gets_nowhere() -> None:
    (black_hole,) = listeners(outbound_port=15101)["virtualOutbound"].filter_chains
    assert black_hole.filter_chain_match.destination_port.value == 15101
    assert tcp(black_hole).cluster == "BlackHoleCluster"


def test_registry_only_refuses_unknown_destinations() -> None:
    found = listeners(allow_any_outbound=False)["virtualOutbound"]
    assert tcp(found.default_filter_chain).cluster == "BlackHoleCluster"


def test_http_services_of_a_port_share_a_listener_and_its_routes() -> None:
    built = listeners(service("reviews"), service("ratings"))
    found = built["0.0.0.0_9080"]
    (chain,) = found.filter_chains
    assert not found.bind_to_port.value
    assert found.HasField("bind_to_port")
    assert http(chain).rds.route_config_name == "9080"
    assert http(chain).rds.config_source.HasField("ads")
    assert not found.listener_filters


def test_the_connection_manager_is_istios() -> None:
    manager = http(listeners(service("reviews"))["0.0.0.0_9080"].filter_chains[0])
    assert manager.server_name == "istio-envoy"
    assert manager.normalize_path.value
    assert manager.HasField("use_remote_address")
    assert not manager.use_remote_address.value
    assert manager.stream_idle_timeout.ToTimedelta().total_seconds() == 0
    assert manager.HasField("stream_idle_timeout")
    assert manager.request_headers_timeout.ToTimedelta().total_seconds() > 0
    assert [each.upgrade_type for each in manager.upgrade_configs] == ["websocket"]
    assert [each.name for each in manager.http_filters] == [
        "envoy.filters.http.fault",
        "envoy.filters.http.cors",
        "envoy.filters.http.router",
    ]


def test_tcp_services_listen_on_their_virtual_ips() -> None:
    built = listeners(service("db", port(3306, TCP), addresses=("10.1.2.3", "fd00::1")))
    for name in ("10.1.2.3_3306", "fd00::1_3306"):
        (chain,) = built[name].filter_chains
        assert tcp(chain).cluster == "outbound|3306||db.default.svc.cluster.local"
        assert not built[name].bind_to_port.value
    assert "0.0.0.0_3306" not in built


def test_a_tcp_service_without_virtual_ip_takes_the_port() -> None:
    (chain,) = listeners(service("db", port(3306, TCP)))["0.0.0.0_3306"].filter_chains
    assert tcp(chain).cluster == "outbound|3306||db.default.svc.cluster.local"


def test_the_older_of_two_tcp_services_takes_the_port() -> None:
    newer = service("a", port(3306, TCP), creation="2024-02-01T00:00:00Z")
    older = service("b", port(3306, TCP), creation="2024-01-01T00:00:00Z")
    (chain,) = listeners(newer, older)["0.0.0.0_3306"].filter_chains
    assert tcp(chain).cluster == "outbound|3306||b.default.svc.cluster.local"


def test_an_older_service_entry_does_not_take_the_address_of_a_kubernetes_service() -> None:
    entry = external_service("a.example.com", port(3306, TCP), addresses=("10.96.0.7",), creation="2024")
    own = service("db", port(3306, TCP), addresses=("10.96.0.7",), creation="2025")
    (chain,) = listeners(entry, own)["10.96.0.7_3306"].filter_chains
    assert tcp(chain).cluster == "outbound|3306||db.default.svc.cluster.local"


def test_tls_hosts_of_a_port_are_distinguished_by_server_name() -> None:
    built = listeners(
        external_service("a.example.com", port(443, TLS)), external_service("*.example.org", port(443, TLS))
    )
    found = built["0.0.0.0_443"]
    names = {tuple(each.filter_chain_match.server_names): tcp(each).cluster for each in found.filter_chains}
    assert names == {
        ("a.example.com",): "outbound|443||a.example.com",
        ("*.example.org",): "outbound|443||*.example.org",
    }
    assert [each.name for each in found.listener_filters] == ["envoy.filters.listener.tls_inspector"]
    assert found.HasField("listener_filters_timeout")  # else Envoy waits 15 s for a ClientHello, and closes
    assert found.listener_filters_timeout.ToTimedelta() == timedelta(0)
    assert tcp(found.default_filter_chain).cluster == "PassthroughCluster"


def test_no_pair_of_name_and_range_is_matched_twice() -> None:
    def route(names: list[str], *subnets: str) -> dict[str, Any]:
        match = {"sniHosts": names, "destinationSubnets": list(subnets)}
        return {"match": [match], "route": [{"destination": {"host": "a.example.com"}}]}

    routes = [
        route(["a.example.com", "a.example.com"], "10.1.2.3/24"),
        route(["a.example.com", "b.example.com"], "10.1.2.0/24", "10.2.0.0/16"),
        route(["b.example.com"], "10.1.2.9/24"),
    ]
    found = listeners(
        external_service("a.example.com", port(443, TLS)),
        virtual_services={"a": {"hosts": ["a.example.com", "b.example.com"], "tls": routes}},
    )["0.0.0.0_443"]
    pairs = [
        (name, each.address_prefix)
        for chain in found.filter_chains
        for name in chain.filter_chain_match.server_names
        for each in chain.filter_chain_match.prefix_ranges
    ]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {
        (name, network) for name in ("a.example.com", "b.example.com") for network in ("10.1.2.0", "10.2.0.0")
    }


def test_http_and_tls_share_a_port() -> None:
    found = listeners(service("web", port(443)), external_service("a.example.com", port(443, TLS)))[
        "0.0.0.0_443"
    ]
    by_name, rest = found.filter_chains
    assert list(by_name.filter_chain_match.server_names) == ["a.example.com"]
    assert http(rest).rds.route_config_name == "443"
    assert not found.HasField("default_filter_chain")


def test_a_cidr_narrows_the_ports_listener() -> None:
    target = external_service("db", port(3306, TCP), addresses=("10.2.0.0/16",), resolution=Resolution.NONE)
    found = listeners(target)["0.0.0.0_3306"]
    (chain,) = found.filter_chains
    (prefix,) = chain.filter_chain_match.prefix_ranges
    assert (prefix.address_prefix, prefix.prefix_len.value) == ("10.2.0.0", 16)
    assert tcp(found.default_filter_chain).cluster == "PassthroughCluster"


def test_tls_routes_choose_by_server_name() -> None:
    host = "api.example.com"
    route = {
        "match": [{"sniHosts": [host, "*-v1.example.com"], "destinationSubnets": ["10.0.0.0/8"]}],
        "route": [{"destination": {"host": host, "subset": "v2"}}],
    }
    built = listeners(
        external_service(host, port(443, TLS)),
        virtual_services={"api": {"hosts": [host, "*-v1.example.com"], "tls": [route]}},
    )
    routed, own = built["0.0.0.0_443"].filter_chains
    assert list(routed.filter_chain_match.server_names) == [host]  # Envoy has no partial wildcards here
    assert routed.filter_chain_match.prefix_ranges[0].address_prefix == "10.0.0.0"
    assert tcp(routed).cluster == f"outbound|443|v2|{host}"
    assert tcp(own).cluster == f"outbound|443||{host}"


def test_tcp_routes_share_by_weight_and_idle_as_the_destination_rule_says() -> None:
    host = "db.default.svc.cluster.local"
    shares = [
        {"destination": {"host": host, "subset": version}, "weight": weight}
        for version, weight in (("v1", 80), ("v2", 20))
    ]
    built = listeners(
        service("db", port(3306, TCP)),
        virtual_services={"db": {"hosts": [host], "tcp": [{"route": shares}]}},
        destination_rules={
            "db": {
                "host": host,
                "trafficPolicy": {
                    "connectionPool": {"tcp": {"idleTimeout": "30s", "maxConnectionDuration": "1h"}}
                },
            }
        },
    )
    proxy = tcp(built["0.0.0.0_3306"].filter_chains[0])
    weighted = [(each.name, each.weight) for each in proxy.weighted_clusters.clusters]
    assert weighted == [(f"outbound|3306|v1|{host}", 80), (f"outbound|3306|v2|{host}", 20)]
    assert proxy.idle_timeout.ToTimedelta().total_seconds() == 30
    assert proxy.max_downstream_connection_duration.ToTimedelta().total_seconds() == 3600
    assert proxy.max_connect_attempts.value > 1


def test_nothing_is_handed_over_to_the_proxys_own_ports() -> None:
    built = listeners(service("odd", port(15001), port(15006, TCP)))
    assert set(built) == {"virtualOutbound", "virtualInbound"}


def test_the_explicit_proxy_binds_to_loopback_and_takes_connect() -> None:
    found = listeners(proxy_http_port=15080)["127.0.0.1_15080"]
    manager = http(found.filter_chains[0])
    assert found.address.socket_address.address == "127.0.0.1"
    assert not found.HasField("bind_to_port")
    assert manager.rds.route_config_name == "http_proxy"
    assert manager.http_protocol_options.allow_absolute_url.value
    assert [each.upgrade_type for each in manager.upgrade_configs] == ["websocket", "CONNECT"]


def test_a_proxys_own_explicit_port_comes_before_the_meshs() -> None:
    built = build_listeners(BuildCache(), mesh(proxy_http_port=15080), sidecar_proxy(http_proxy_port=16001))
    assert "127.0.0.1_16001" in built
    assert "127.0.0.1_15080" not in built


def test_without_interception_only_the_explicit_proxy_listens() -> None:
    snapshot = mesh((service("reviews"), []), proxy_http_port=15080)
    built = build_listeners(BuildCache(), snapshot, sidecar_proxy(interception_mode=InterceptionMode.NONE))
    assert set(built) == {"127.0.0.1_15080"}


def test_proxies_of_a_namespace_share_their_listeners() -> None:
    cache = BuildCache()
    snapshot = mesh((service("reviews"), []), proxy_http_port=15080)
    first = build_listeners(cache, snapshot, sidecar_proxy("a"))
    second = build_listeners(cache, snapshot, sidecar_proxy("b", ip="10.0.0.2"))
    for name in ("virtualOutbound", "0.0.0.0_9080", "127.0.0.1_15080"):
        assert first[name] is second[name]
