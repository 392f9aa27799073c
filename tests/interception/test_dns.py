"""The capture of DNS queries: the proxy answers the application on loopback and asks the resolver outside."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from tests.support.intercepted_pod import InterceptedPod
from tests.support.network_namespaces import APPLICATION, PROXY, NetworkNamespace, Owner

DNS_PORT = 53
CAPTURED_PORT = 15053
CAPTURE_ALL = ("--capture-dns", "--capture-all-dns")


def datagrams(
    pod: InterceptedPod, namespace: NetworkNamespace, host: str, port: int, owner: Owner
) -> socket.socket:
    bound = namespace.socket(pod.side, socket.SOCK_DGRAM, owner)
    bound.bind((host, port))
    return bound


def exchange(pod: InterceptedPod, host: str, server: socket.socket, owner: Owner) -> str:
    """The client's address of a query that the server answers; the answer comes from the address that the
    client called, or a connected socket does not see it."""
    with pod.pod.socket(pod.side, socket.SOCK_DGRAM, owner) as client:
        client.connect((host, DNS_PORT))
        client.send(b"query")
        query, address = server.recvfrom(100)
        server.sendto(b"answer to " + query, address)
        assert client.recv(100) == b"answer to query"
    return str(address[0])


@pytest.mark.parametrize("owner", [PROXY, Owner(1337, 4000), Owner(4000, 1337)], ids=["both", "uid", "gid"])
def test_the_application_s_queries_reach_the_proxy_and_the_proxy_s_the_resolver(
    pod: InterceptedPod, owner: Owner
) -> None:
    pod.intercept(*CAPTURE_ALL)
    proxy = datagrams(pod, pod.pod, pod.side.loopback, CAPTURED_PORT, owner)
    resolver = datagrams(pod, pod.outside, "", DNS_PORT, APPLICATION)
    with proxy, resolver:
        for _ in range(3):
            exchange(pod, pod.side.outside, proxy, APPLICATION)
            assert exchange(pod, pod.side.outside, resolver, owner) == pod.side.pod


def test_the_same_ports_can_be_in_use_on_both_sides_of_the_proxy(pod: InterceptedPod) -> None:
    """Both sockets have the same addresses and ports: only the zone of the connection tracking differs."""
    pod.intercept(*CAPTURE_ALL)
    proxy = datagrams(pod, pod.pod, pod.side.loopback, CAPTURED_PORT, PROXY)
    resolver = datagrams(pod, pod.outside, "", DNS_PORT, APPLICATION)
    asking = pod.pod.socket(pod.side, socket.SOCK_DGRAM, PROXY)
    client = pod.pod.socket(pod.side, socket.SOCK_DGRAM, APPLICATION)
    with proxy, resolver, asking, client:
        for bound in (asking, client):
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((pod.side.pod, 40000))
        client.connect((pod.side.outside, DNS_PORT))
        client.send(b"query")
        query, application = proxy.recvfrom(100)
        asking.bind((pod.side.pod, 40000))
        asking.connect((pod.side.outside, DNS_PORT))
        asking.send(query)
        resolver.sendto(b"answer", resolver.recvfrom(100)[1])
        answer = asking.recv(100)
        asking.close()  # two sockets for one pair of addresses: the kernel delivers to one of them
        proxy.sendto(answer, application)
        assert client.recv(100) == b"answer"


def test_queries_over_tcp_are_captured(pod: InterceptedPod) -> None:
    pod.intercept(*CAPTURE_ALL)
    pod.listen("resolver", pod.outside, DNS_PORT)
    pod.listen("proxy", pod.pod, CAPTURED_PORT, host=pod.side.loopback, owner=PROXY)
    assert pod.call(pod.side.outside, DNS_PORT).at == "proxy"
    assert pod.call(pod.side.outside, DNS_PORT, owner=PROXY).at == "resolver"


def test_a_resolver_on_loopback_is_captured(pod: InterceptedPod) -> None:
    pod.intercept(*CAPTURE_ALL)
    pod.listen("proxy", pod.pod, CAPTURED_PORT, host=pod.side.loopback, owner=PROXY)
    assert pod.call(pod.side.loopback, DNS_PORT).at == "proxy"
    with datagrams(pod, pod.pod, pod.side.loopback, CAPTURED_PORT, PROXY) as proxy:
        exchange(pod, pod.side.loopback, proxy, APPLICATION)


def test_only_queries_to_the_pod_s_resolvers_are_captured(
    pod: InterceptedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolvers = (ip_address("10.77.0.1"), ip_address("fd77::1"))
    monkeypatch.setattr("sidecar.intercept.flags.resolvers", lambda: resolvers)
    pod.intercept("--capture-dns")
    pod.listen("proxy", pod.pod, CAPTURED_PORT, host=pod.side.loopback, owner=PROXY)
    assert pod.call(pod.side.outside, DNS_PORT).at == "proxy"
    assert pod.call(pod.side.elsewhere, DNS_PORT).at == "outbound"
    proxy = datagrams(pod, pod.pod, pod.side.loopback, CAPTURED_PORT, PROXY)
    resolver = datagrams(pod, pod.outside, "", DNS_PORT, APPLICATION)
    with proxy, resolver:
        exchange(pod, pod.side.outside, proxy, APPLICATION)
        exchange(pod, pod.side.outside, resolver, PROXY)
        with pod.pod.socket(pod.side, socket.SOCK_DGRAM, APPLICATION) as client:
            client.sendto(b"query", (pod.side.elsewhere, DNS_PORT))
            assert resolver.recvfrom(100)[1][0] == pod.side.pod


def test_a_pod_without_resolvers_is_told(
    pod: InterceptedPod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sidecar.intercept.flags.resolvers", lambda: ())
    pod.intercept("--capture-dns")
    assert "/etc/resolv.conf names no resolver: DNS is not captured" in capsys.readouterr().out
    assert pod.rules("raw") == []
