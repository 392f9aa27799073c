from __future__ import annotations

from sidecar.intercept.rules import IPV4, IPV6
from sidecar.intercept.settings import Interception
from sidecar.intercept.validate import probes


def test_the_proxy_s_user_calls_its_own_pod() -> None:
    found = probes(Interception(), (IPV4, IPV6), is_proxy=True, own_ipv6="fd00::2")
    assert [(probe.target, probe.port) for probe in found] == [("127.0.0.6", 15006), ("fd00::2", 15006)]


def test_another_user_calls_outside() -> None:
    found = probes(Interception(), (IPV4, IPV6), is_proxy=False, own_ipv6="fd00::2")
    assert [(probe.target, probe.port) for probe in found] == [("192.0.2.1", 15001), ("2001:db8::1", 15001)]


def test_a_pod_without_an_address_of_ipv6_is_not_checked_for_it() -> None:
    assert [probe.family for probe in probes(Interception(), (IPV4, IPV6), is_proxy=True, own_ipv6="")] == [
        IPV4
    ]
