from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from envoy.config.listener.v3.listener_components_pb2 import FilterChain
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.filters.listener.original_src.v3.original_src_pb2 import OriginalSrc
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import TcpProxy
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import TlsParameters
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol
from controlplane.networking import build_listeners
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import Specs, mesh, port, service, sidecar_proxy

MESH_ALPNS = {"istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"}


def virtual_inbound(protocol: Protocol = Protocol.HTTP, **policy: Any) -> Listener:
    policies: Specs = {"policy": policy} if policy else {}
    snapshot = mesh((service("reviews", port(9080, protocol)), []), peer_authentications=policies)
    return build_listeners(BuildCache(), snapshot, sidecar_proxy("reviews"))["virtualInbound"]


def chains(listener: Listener, number: int = 0) -> list[FilterChain]:
    """Those of a port; 0: those of every other port."""
    return [
        each for each in listener.filter_chains if each.filter_chain_match.destination_port.value == number
    ]


def kinds(found: list[FilterChain]) -> list[tuple[str, bool, bool, str]]:
    """For each: transport protocol, is the mesh's ALPN asked for, is TLS spoken, what follows."""
    return [
        (
            each.filter_chain_match.transport_protocol,
            set(each.filter_chain_match.application_protocols) == MESH_ALPNS,
            each.HasField("transport_socket"),
            each.filters[0].name.rpartition(".")[2],
        )
        for each in found
    ]


def mode(value: str) -> dict[str, Any]:
    return {"mtls": {"mode": value}}


@pytest.mark.parametrize("interception", InterceptionMode)
def test_with_tproxy_the_application_sees_the_clients_address(interception: InterceptionMode) -> None:
    snapshot = mesh((service("reviews"), []))
    built = build_listeners(
        BuildCache(), snapshot, sidecar_proxy("reviews", interception_mode=interception)
    ).get("virtualInbound", Listener())
    names = [each.name.rpartition(".")[2] for each in built.listener_filters]
    assert built.transparent.value == ("original_src" in names) == (interception is InterceptionMode.TPROXY)
    if built.transparent.value:
        assert names == ["original_dst", "original_src", "tls_inspector"]
        source = OriginalSrc()
        built.listener_filters[1].typed_config.Unpack(source)
        assert source == OriginalSrc(mark=1337)


def test_a_proxy_with_an_ipv6_address_listens_on_ipv6() -> None:
    snapshot = mesh((service("reviews"), []), (service("db", port(3306, Protocol.TCP)), []))
    built = build_listeners(BuildCache(), snapshot, sidecar_proxy("reviews", ip="fd00::1"))
    bound = [each.address.socket_address.address for each in built.values()]
    assert {"virtualInbound", "virtualOutbound", "::_9080", "::_3306"} <= built.keys()
    assert set(bound) == {"::"}
    assert not any(name.startswith("0.0.0.0") for name in built)


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC])
def test_permissive_http_takes_mesh_tls_and_plaintext(protocol: Protocol) -> None:
    """Not the application's own TLS, in which no policy or route for HTTP could be applied."""
    assert kinds(chains(virtual_inbound(protocol), 9080)) == [
        ("tls", True, True, "http_connection_manager"),
        ("raw_buffer", False, False, "http_connection_manager"),
    ]


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.TLS, Protocol.HTTPS])
def test_permissive_connections_may_be_the_applications_own_tls(protocol: Protocol) -> None:
    assert kinds(chains(virtual_inbound(protocol), 9080)) == [
        ("tls", True, True, "tcp_proxy"),
        ("tls", False, False, "tcp_proxy"),
        ("raw_buffer", False, False, "tcp_proxy"),
    ]


def test_strict_takes_mesh_tls_only() -> None:
    strict = virtual_inbound(**mode("STRICT"))
    assert kinds(chains(strict, 9080)) == [("tls", False, True, "http_connection_manager")]
    assert kinds(chains(strict)) == [("tls", False, True, "tcp_proxy")]
    assert not strict.HasField("default_filter_chain")


def test_disable_accepts_everything() -> None:
    disabled = virtual_inbound(**mode("DISABLE"))
    assert kinds(chains(disabled, 9080)) == [("", False, False, "http_connection_manager")]
    assert kinds(chains(disabled)) == [("", False, False, "tcp_proxy")]


def test_tcp_ports_are_forwarded_as_bytes() -> None:
    assert {kind[3] for kind in kinds(chains(virtual_inbound(Protocol.TCP), 9080))} == {"tcp_proxy"}


def test_a_ports_own_mode_counts_also_where_no_service_names_it() -> None:
    selected = {"selector": {"matchLabels": {"app": "reviews"}}}
    found = virtual_inbound(
        **selected, **mode("STRICT"), portLevelMtls={"9080": {"mode": "DISABLE"}, "7000": {"mode": "DISABLE"}}
    )
    assert [kind[0] for kind in kinds(chains(found, 9080))] == [""]
    assert kinds(chains(found, 7000)) == [("", False, False, "tcp_proxy")]
    assert [kind[0] for kind in kinds(chains(found))] == ["tls"]


def test_mesh_tls_demands_a_certificate_of_the_trust_domain() -> None:
    chain = chains(virtual_inbound(), 9080)[0]
    context = DownstreamTlsContext()
    assert chain.transport_socket.typed_config.Unpack(context)
    common = context.common_tls_context
    assert context.require_client_certificate.value
    assert common.tls_params.tls_minimum_protocol_version == TlsParameters.TLSv1_3
    assert common.tls_certificate_sds_secret_configs[0].name == "default"
    validation = common.combined_validation_context
    assert validation.validation_context_sds_secret_config.name == "ROOTCA"
    (name,) = validation.default_validation_context.match_typed_subject_alt_names
    assert name.matcher.prefix == "spiffe://cluster.local/"


@pytest.mark.parametrize(
    ("protocol", "alpn"),
    [
        (Protocol.HTTP, ["h2", "http/1.1"]),
        (Protocol.GRPC, ["h2", "http/1.1"]),
        (Protocol.TCP, ["istio"]),
    ],
)
def test_clients_choose_the_version_of_http_in_mesh_tls(protocol: Protocol, alpn: list[str]) -> None:
    context = DownstreamTlsContext()
    chains(virtual_inbound(protocol), 9080)[0].transport_socket.typed_config.Unpack(context)
    assert list(context.common_tls_context.alpn_protocols) == alpn


@pytest.mark.parametrize(
    ("protocol", "filters"),
    [
        (Protocol.GRPC_WEB, ["envoy.filters.http.grpc_web", "envoy.filters.http.router"]),
        (Protocol.GRPC, ["envoy.filters.http.router"]),
    ],
)
def test_grpc_web_is_bridged_where_the_port_declares_it(protocol: Protocol, filters: list[str]) -> None:
    manager = HttpConnectionManager()
    assert chains(virtual_inbound(protocol), 9080)[0].filters[0].typed_config.Unpack(manager)
    assert [each.name for each in manager.http_filters] == filters


def test_requests_go_to_the_app_and_are_repeated_only_if_it_never_saw_them() -> None:
    manager = HttpConnectionManager()
    assert chains(virtual_inbound(), 9080)[0].filters[0].typed_config.Unpack(manager)
    (host,) = manager.route_config.virtual_hosts
    (route,) = host.routes
    assert list(host.domains) == ["*"]
    assert route.route.cluster == "inbound|9080||"
    assert route.route.timeout.ToTimedelta() == timedelta(0)
    assert route.route.HasField("timeout")
    assert route.route.retry_policy.retry_on == "reset-before-request"


def test_the_app_learns_the_callers_identity() -> None:
    manager = HttpConnectionManager()
    assert chains(virtual_inbound(), 9080)[0].filters[0].typed_config.Unpack(manager)
    assert manager.forward_client_cert_details == HttpConnectionManager.APPEND_FORWARD
    assert manager.set_current_client_cert_details.uri


def test_the_destination_is_restored_before_tls_is_inspected() -> None:
    found = virtual_inbound()
    assert [each.name.rpartition(".")[2] for each in found.listener_filters] == [
        "original_dst",
        "tls_inspector",
    ]
    assert not found.use_original_dst.value
    assert found.continue_on_listener_filters_timeout


def test_who_dials_its_port_gets_nowhere() -> None:
    (chain,) = chains(virtual_inbound(), 15006)
    proxy = TcpProxy()
    assert chain.filters[0].typed_config.Unpack(proxy)
    assert proxy.cluster == "BlackHoleCluster"


def test_other_ports_pass_through() -> None:
    proxy = TcpProxy()
    assert chains(virtual_inbound())[-1].filters[0].typed_config.Unpack(proxy)
    assert proxy.cluster == "InboundPassthroughCluster"


def test_no_two_chains_match_the_same() -> None:
    found = virtual_inbound()
    matches = [each.filter_chain_match.SerializeToString() for each in found.filter_chains]
    assert len(matches) == len(set(matches))
    names = [each.name for each in found.filter_chains]
    assert len(names) == len(set(names))


def explicit(policy: dict[str, Any] | None = None, **ingress: Any) -> dict[str, Listener]:
    listener = {"port": {"number": 9080, "protocol": "HTTP", "name": "http"}, **ingress}
    snapshot = mesh(
        (service("reviews"), []),
        sidecars={"reviews": {"ingress": [listener]}},
        peer_authentications={"policy": policy} if policy else None,
    )
    return build_listeners(
        BuildCache(),
        snapshot,
        sidecar_proxy("reviews", interception_mode=InterceptionMode.NONE),
    )


def test_without_interception_each_ingress_is_a_listener_of_its_own() -> None:
    built = explicit()
    assert set(built) == {"0.0.0.0_9080"}
    found = built["0.0.0.0_9080"]
    address = found.address.socket_address
    assert (address.address, address.port_value) == ("0.0.0.0", 9080)
    assert not found.HasField("bind_to_port")
    assert kinds(chains(found)) == kinds(chains(virtual_inbound(), 9080))
    assert [each.name.rpartition(".")[2] for each in found.listener_filters] == ["tls_inspector"]


def test_an_ingress_binds_where_it_says() -> None:
    built = explicit(bind="127.0.0.1")
    assert built["127.0.0.1_9080"].address.socket_address.address == "127.0.0.1"


def test_tls_is_not_inspected_if_the_mode_is_disable() -> None:
    found = explicit(mode("DISABLE"))["0.0.0.0_9080"]
    assert not found.listener_filters
