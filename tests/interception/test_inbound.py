"""Connections that arrive at a pod."""

from __future__ import annotations

import socket

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.listener.original_dst import original_destination, plain_address
from tests.support.intercepted_pod import INBOUND, PORT, InterceptedPod
from tests.support.network_namespaces import APPLICATION, PROXY, V6

APP = "application"


def test_a_connection_from_outside_reaches_the_proxy_with_its_destination(pod: InterceptedPod) -> None:
    pod.intercept()
    arrival = pod.call_from_outside()
    assert (arrival.at, arrival.target) == (INBOUND, (pod.side.pod, PORT))
    assert arrival.client == pod.side.outside


def test_an_ipv6_socket_that_accepts_ipv4_reads_the_destination_of_both(pod: InterceptedPod) -> None:
    assert pod.run() == 0
    with pod.pod.socket(V6, socket.SOCK_STREAM, PROXY) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 15006))
        listener.listen()
        with pod.outside.socket(pod.side, socket.SOCK_STREAM, APPLICATION) as client:
            client.connect((pod.side.pod, PORT))
            connection, _ = listener.accept()
            with connection:
                local = plain_address(*connection.getsockname()[:2])
                assert original_destination(connection, local) == SocketAddress(pod.side.pod, PORT)


@pytest.mark.parametrize("port", [15008, 15020, 15021, 15090])
def test_the_ports_of_the_sidecar_itself_are_not_captured(pod: InterceptedPod, port: int) -> None:
    pod.intercept()
    pod.listen("itself", pod.pod, port, owner=PROXY)
    assert pod.call_from_outside(port).at == "itself"


def test_excluded_ports_are_not_captured(pod: InterceptedPod) -> None:
    pod.intercept("--exclude-inbound-ports", "9000,9001")
    pod.listen(APP, pod.pod, 9001)
    assert pod.call_from_outside(9001).at == APP
    assert pod.call_from_outside(9002).at == INBOUND


def test_only_listed_ports_are_captured(pod: InterceptedPod) -> None:
    pod.intercept("--inbound-ports", f"{PORT},9000")
    pod.listen(APP, pod.pod, 9001)
    assert [pod.call_from_outside(port).at for port in (PORT, 9000, 9001)] == [INBOUND, INBOUND, APP]


def test_no_port_is_captured(pod: InterceptedPod) -> None:
    pod.intercept("--inbound-ports", "")
    pod.listen(APP, pod.pod)
    assert pod.call_from_outside().at == APP


def test_an_excluded_interface_is_not_captured(pod: InterceptedPod) -> None:
    pod.intercept("--exclude-interfaces", "eth0")
    pod.listen(APP, pod.pod)
    pod.listen("outside", pod.outside)
    assert pod.call_from_outside().at == APP
    assert pod.call(pod.side.elsewhere).at == "outside"


def test_the_proxy_calls_its_application_directly(pod: InterceptedPod) -> None:
    """From 127.0.0.6 or ::6, at the address that the client called: the application may listen only there."""
    pod.intercept()
    pod.listen(APP, pod.pod, host=pod.side.pod)
    arrival = pod.call(pod.side.pod, owner=PROXY, source=pod.side.inbound_source)
    assert (arrival.at, arrival.client) == (APP, pod.side.inbound_source)


def test_the_proxy_s_other_calls_to_its_pod_pass_the_inbound_side(pod: InterceptedPod) -> None:
    """The application has called its own Service, and the outbound side has chosen this pod."""
    pod.intercept()
    arrival = pod.call(pod.side.pod, owner=PROXY)
    assert (arrival.at, arrival.target) == (INBOUND, (pod.side.pod, PORT))


def test_connections_of_virtual_interfaces_are_outbound(pod: InterceptedPod) -> None:
    pod.intercept("--reroute-virtual-interfaces", "eth0", "--outbound-ranges", "10.77.0.0/24,fd77::/64")
    arrival = pod.call_from_outside()
    assert (arrival.at, arrival.target) == ("outbound", (pod.side.pod, PORT))


def test_a_virtual_interface_s_connection_to_another_range_is_left_alone(pod: InterceptedPod) -> None:
    pod.intercept("--reroute-virtual-interfaces", "eth0", "--outbound-ranges", "192.0.2.0/24,2001:db8:1::/48")
    pod.listen(APP, pod.pod)
    assert pod.call_from_outside().at == APP
