from __future__ import annotations

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import FilterChainMatch
from sidecar.listener.detect import Detection
from sidecar.listener.filter_chain import FilterChainMatcher

HERE = SocketAddress("10.0.0.1", 9080)


def matcher(default: str | None = None, **chains: FilterChainMatch) -> FilterChainMatcher[str]:
    return FilterChainMatcher([(match, name) for name, match in chains.items()], default)


def chosen(
    chains: FilterChainMatcher[str],
    destination: SocketAddress = HERE,
    *,
    tls: bool = False,
    name: str = "",
    alpn: tuple[str, ...] = (),
) -> str | None:
    detection = Detection("tls" if tls else "raw_buffer", name, alpn)
    return chains.for_destination(destination).choose(detection)


def test_the_destination_port_comes_first_and_the_search_does_not_go_back() -> None:
    chains = matcher(
        "default",
        port=FilterChainMatch(destination_port=9080, transport_protocol="tls"),
        any=FilterChainMatch(),
    )
    assert chosen(chains, tls=True) == "port"
    assert chosen(chains) == "default", "not `any`: the port was matched by another chain"
    assert chosen(chains, SocketAddress("10.0.0.1", 1)) == "any"


def test_the_longest_prefix_wins() -> None:
    chains = matcher(
        wide=FilterChainMatch(prefix_ranges=("10.0.0.0/8",)),
        exact=FilterChainMatch(prefix_ranges=("10.0.0.1/32", "fd00::/8")),
        rest=FilterChainMatch(),
    )
    assert chosen(chains) == "exact"
    assert chosen(chains, SocketAddress("10.9.9.9", 9080)) == "wide"
    assert chosen(chains, SocketAddress("fd00::1", 9080)) == "exact"
    assert chosen(chains, SocketAddress("192.168.0.1", 9080)) == "rest"


def test_server_names_exact_then_longest_wildcard_then_none() -> None:
    chains = matcher(
        exact=FilterChainMatch(server_names=("www.example.com",)),
        deep=FilterChainMatch(server_names=("*.api.example.com",)),
        wide=FilterChainMatch(server_names=("*.example.com",)),
        rest=FilterChainMatch(),
    )
    assert chosen(chains, tls=True, name="www.example.com") == "exact"
    assert chosen(chains, tls=True, name="v1.api.example.com") == "deep"
    assert chosen(chains, tls=True, name="a.b.example.com") == "wide"
    assert chosen(chains, tls=True, name="example.com") == "rest"
    assert chosen(chains, tls=True) == "rest"


def test_application_protocols_in_the_clients_order() -> None:
    chains = matcher(
        mesh=FilterChainMatch(transport_protocol="tls", application_protocols=("istio",)),
        h2=FilterChainMatch(transport_protocol="tls", application_protocols=("h2",)),
        other=FilterChainMatch(transport_protocol="tls"),
    )
    assert chosen(chains, tls=True, alpn=("h2", "istio")) == "h2"
    assert chosen(chains, tls=True, alpn=("x", "istio")) == "mesh"
    assert chosen(chains, tls=True, alpn=("x",)) == "other"
    assert chosen(chains) is None


def test_without_chains_there_is_the_default() -> None:
    assert chosen(matcher("default")) == "default"
    assert chosen(matcher()) is None


def test_sniffing_is_asked_for_only_where_it_decides() -> None:
    chains = matcher(
        mysql=FilterChainMatch(destination_port=3306),
        tls=FilterChainMatch(destination_port=443, server_names=("a",)),
        http=FilterChainMatch(destination_port=80, application_protocols=("http/1.1", "h2c")),
    )

    def needs(port: int) -> tuple[bool, bool]:
        candidates = chains.for_destination(SocketAddress("10.0.0.1", port))
        return candidates.needs_tls, candidates.needs_http

    assert needs(3306) == (False, False)
    assert needs(443) == (True, False)
    assert needs(80) == (False, True)
    assert needs(1) == (False, False)
