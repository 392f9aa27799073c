"""TPROXY: inbound connections keep their addresses. The proxy is root with the group 1337."""

from __future__ import annotations

import pytest

from sidecar.config.endpoint import SocketAddress
from sidecar.config.listener import Listener
from sidecar.errors import ConfigError
from sidecar.listener.listen_socket import bind
from tests.support.intercepted_pod import INBOUND, OUTBOUND, PORT, InterceptedPod
from tests.support.network_namespaces import PROXY, Owner

APP = "application"
MARK = 1337
ROOT_PROXY = Owner(0, 1337)
TPROXY = ("--mode", "TPROXY")


def test_a_connection_from_outside_reaches_the_proxy_with_both_addresses(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY)
    arrival = pod.call_from_outside()
    assert (arrival.at, arrival.target) == (INBOUND, (pod.side.pod, PORT))
    assert arrival.client == pod.side.outside


@pytest.mark.parametrize("uid", ["1337", ""], ids=["uid", "gid only"])
def test_the_application_sees_the_client_s_address(pod: InterceptedPod, uid: str) -> None:
    pod.intercept(*TPROXY, "--proxy-uid", uid)
    pod.listen(APP, pod.pod, host=pod.side.pod)
    arrival = pod.call(pod.side.pod, owner=ROOT_PROXY, source=pod.side.outside, mark=MARK)
    assert (arrival.at, arrival.client) == (APP, pod.side.outside)


def test_the_proxy_calls_its_application_from_its_own_address_too(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY)
    pod.listen(APP, pod.pod, host=pod.side.pod)
    arrival = pod.call(pod.side.pod, owner=ROOT_PROXY, source=pod.side.inbound_source)
    assert (arrival.at, arrival.client) == (APP, pod.side.inbound_source)


def test_the_application_s_connections_inside_the_pod_are_direct(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY)
    pod.listen(APP, pod.pod)
    assert pod.call(pod.side.pod).at == APP
    assert pod.call(pod.side.loopback).at == APP


@pytest.mark.parametrize("uid", ["1337", ""], ids=["uid", "gid only"])
def test_the_proxy_s_other_calls_to_its_pod_pass_the_inbound_side(pod: InterceptedPod, uid: str) -> None:
    pod.intercept(*TPROXY, "--proxy-uid", uid)
    arrival = pod.call(pod.side.pod, owner=ROOT_PROXY)
    assert (arrival.at, arrival.target, arrival.client) == (INBOUND, (pod.side.pod, PORT), pod.side.pod)


def test_excluded_ports_are_not_captured(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY)
    pod.listen("itself", pod.pod, 15021)
    assert pod.call_from_outside(15021).at == "itself"


def test_only_listed_ports_are_captured(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY, "--inbound-ports", str(PORT))
    pod.listen(APP, pod.pod, 9001)
    assert pod.call_from_outside().at == INBOUND
    assert pod.call_from_outside(9001).at == APP


def test_an_excluded_interface_is_not_captured(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY, "--exclude-interfaces", "eth0")
    pod.listen(APP, pod.pod)
    assert pod.call_from_outside().at == APP


def test_outbound_connections_are_redirected(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY)
    pod.listen("outside", pod.outside)
    arrival = pod.call(pod.side.elsewhere)
    assert (arrival.at, arrival.target) == (OUTBOUND, (pod.side.elsewhere, PORT))
    assert pod.call(pod.side.elsewhere, owner=ROOT_PROXY).at == "outside"


def test_dropping_invalid_packets_lets_connections_pass(pod: InterceptedPod) -> None:
    pod.intercept(*TPROXY, "--drop-invalid")
    assert pod.call_from_outside().at == INBOUND


def test_a_transparent_listener_without_the_capability_is_refused(pod: InterceptedPod) -> None:
    address = SocketAddress("0.0.0.0", 0)
    with (
        pod.pod.entered(PROXY),
        pytest.raises(ConfigError, match="needs the capability NET_ADMIN"),
    ):
        bind(Listener(name="virtualInbound", address=address, transparent=True))
