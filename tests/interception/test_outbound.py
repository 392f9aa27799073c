"""Connections that a pod opens."""

from __future__ import annotations

import socket

import pytest

from tests.support.intercepted_pod import OUTBOUND, PORT, InterceptedPod
from tests.support.network_namespaces import APPLICATION, PROXY, WAIT_S, Owner

OUTSIDE = "outside"


@pytest.fixture(autouse=True)
def server_outside(pod: InterceptedPod) -> None:
    pod.listen(OUTSIDE, pod.outside)


def test_a_connection_of_the_application_reaches_the_proxy_with_its_destination(pod: InterceptedPod) -> None:
    pod.intercept()
    arrival = pod.call(pod.side.elsewhere)
    assert (arrival.at, arrival.target) == (OUTBOUND, (pod.side.elsewhere, PORT))


@pytest.mark.parametrize("owner", [PROXY, Owner(1337, 4000), Owner(4000, 1337)], ids=["both", "uid", "gid"])
def test_the_proxy_s_own_connections_leave(pod: InterceptedPod, owner: Owner) -> None:
    pod.intercept()
    assert pod.call(pod.side.elsewhere, owner=owner).at == OUTSIDE


@pytest.mark.parametrize("address", ["loopback", "pod"])
def test_the_application_s_connections_inside_the_pod_are_direct(pod: InterceptedPod, address: str) -> None:
    pod.intercept()
    pod.listen("application", pod.pod)
    assert pod.call(getattr(pod.side, address)).at == "application"


def test_only_included_ranges_are_captured(pod: InterceptedPod) -> None:
    pod.intercept("--outbound-ranges", "198.51.100.0/24,2001:db8::/64")
    assert pod.call(pod.side.elsewhere).at == OUTBOUND
    assert pod.call(pod.side.outside).at == OUTSIDE


def test_excluded_ranges_are_not_captured(pod: InterceptedPod) -> None:
    pod.intercept("--exclude-outbound-ranges", "198.51.100.0/24,2001:db8::/64")
    assert pod.call(pod.side.elsewhere).at == OUTSIDE
    assert pod.call(pod.side.outside).at == OUTBOUND


def test_no_range_is_captured(pod: InterceptedPod) -> None:
    pod.intercept("--outbound-ranges", "")
    assert pod.call(pod.side.elsewhere).at == OUTSIDE


def test_an_included_port_is_captured_at_every_destination(pod: InterceptedPod) -> None:
    pod.listen("other port", pod.outside, 8081)
    pod.intercept("--outbound-ranges", "", "--outbound-ports", str(PORT))
    assert pod.call(pod.side.elsewhere).at == OUTBOUND
    assert pod.call(pod.side.elsewhere, 8081).at == "other port"


def test_an_excluded_port_is_not_captured_even_for_calls_of_the_proxy_to_its_pod(pod: InterceptedPod) -> None:
    pod.intercept("--exclude-outbound-ports", str(PORT))
    pod.listen("application", pod.pod, host=pod.side.pod)
    assert pod.call(pod.side.elsewhere).at == OUTSIDE
    assert pod.call(pod.side.elsewhere, 8081).at == OUTBOUND
    assert pod.call(pod.side.pod, owner=PROXY).at == "application"


def test_loopback_is_captured_where_it_is_included(pod: InterceptedPod) -> None:
    if pod.side.kind == socket.AF_INET6:
        pytest.skip("::1 is the only address of loopback, and it is always direct")
    pod.intercept("--outbound-ranges", "127.0.0.2/32")
    pod.listen("application", pod.pod)
    assert pod.call("127.0.0.2").at == OUTBOUND
    assert pod.call("127.0.0.1").at == "application"


def test_only_listed_groups_are_captured(pod: InterceptedPod) -> None:
    pod.intercept("--owner-groups-include", "5000,5001")
    assert pod.call(pod.side.elsewhere, owner=Owner(4000, 5001)).at == OUTBOUND
    assert pod.call(pod.side.elsewhere, owner=APPLICATION).at == OUTSIDE


def test_excluded_groups_are_not_captured(pod: InterceptedPod) -> None:
    pod.intercept("--owner-groups-exclude", "5000,5001")
    assert pod.call(pod.side.elsewhere, owner=Owner(4000, 5001)).at == OUTSIDE
    assert pod.call(pod.side.elsewhere, owner=APPLICATION).at == OUTBOUND


def test_datagrams_are_never_captured(pod: InterceptedPod) -> None:
    pod.intercept()
    server = pod.outside.socket(pod.side, socket.SOCK_DGRAM, APPLICATION)
    client = pod.pod.socket(pod.side, socket.SOCK_DGRAM, APPLICATION)
    with server, client:
        server.bind(("", PORT))
        client.sendto(b"ping", (pod.side.elsewhere, PORT))
        data, address = server.recvfrom(100)
        assert (data, address[0]) == (b"ping", pod.side.pod)
        assert server.gettimeout() == WAIT_S
