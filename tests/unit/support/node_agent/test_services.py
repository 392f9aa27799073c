"""The NAT rules of a node."""

from __future__ import annotations

from fractions import Fraction

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.services import translation_rules
from tests.support.service_objects import collection, endpoint, service, slice_of

API_SERVER = "10.244.7.1:40000"
WEB = service("web", "10.96.1.1", {"port": 80})


def rules(services: list[Resource], slices: list[Resource]) -> list[str]:
    text = translation_rules(collection(*services), collection(*slices), API_SERVER)
    head, *lines, tail, after = text.split("\n")
    assert (head, tail, after) == ("*nat", "COMMIT", "")
    return lines


def destinations(lines: list[str]) -> list[str]:
    return [line.rpartition(" ")[2] for line in lines if " -j DNAT " in line]


def test_a_single_endpoint_gets_all() -> None:
    assert rules([WEB], [slice_of("web", endpoint("10.244.7.3"))]) == [
        "-A PREROUTING -d 10.96.1.1 -p tcp --dport 80 -j DNAT --to-destination 10.244.7.3:9080",
        "-A POSTROUTING -s 10.244.7.3 -d 10.244.7.3 -j MASQUERADE",
    ]


def test_endpoints_of_all_slices_have_equal_chances() -> None:
    slices = [
        slice_of("web", endpoint("10.244.7.3"), endpoint("10.244.7.4"), suffix="1"),
        slice_of("web", endpoint("10.244.7.5"), endpoint("10.244.7.6"), suffix="2"),
    ]
    lines = [line for line in rules([WEB], slices) if "DNAT" in line]
    left, shares = Fraction(1), []
    for line in lines:
        chance = line.partition("--probability ")[2].split(" ")[0] or "1"
        taken = left * Fraction(chance).limit_denominator(1000)
        shares.append(taken)
        left -= taken
    assert shares == [Fraction(1, 4)] * 4


def test_each_protocol_goes_to_its_own_target_port() -> None:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "signalling", "port": 99, "protocol": "SCTP"},
    ]
    targets = [
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5454, "protocol": "TCP"},
        {"name": "signalling", "port": 99, "protocol": "SCTP"},
    ]
    lines = rules(
        [service("names", "10.96.1.2", *ports)], [slice_of("names", endpoint("10.244.7.3"), ports=targets)]
    )
    assert lines[:-1] == [
        "-A PREROUTING -d 10.96.1.2 -p udp --dport 53 -j DNAT --to-destination 10.244.7.3:5353",
        "-A PREROUTING -d 10.96.1.2 -p tcp --dport 53 -j DNAT --to-destination 10.244.7.3:5454",
    ]


def test_a_service_without_endpoints_has_no_rule() -> None:
    assert rules([WEB], []) == []
    assert rules([WEB], [slice_of("web", endpoint("10.244.7.3", ready=False))]) == []
    assert rules([WEB], [slice_of("other", endpoint("10.244.7.3"))]) == []
    assert destinations(rules([WEB], [slice_of("web", endpoint("10.244.7.3"), ports=[])])) == []


def test_only_ready_endpoints_are_used_where_there_are_some() -> None:
    found = slice_of(
        "web",
        endpoint("10.244.7.3", ready=False, serving=True, terminating=True),
        endpoint("10.244.7.4", ready=None),
        endpoint("10.244.7.5", ready=False),
    )
    assert destinations(rules([WEB], [found])) == ["10.244.7.4:9080"]


def test_endpoints_that_serve_until_they_end_are_the_last_resort() -> None:
    found = slice_of(
        "web",
        endpoint("10.244.7.3", ready=False, serving=True, terminating=True),
        endpoint("10.244.7.4", ready=False, serving=False, terminating=True),
    )
    assert destinations(rules([WEB], [found])) == ["10.244.7.3:9080"]


def test_services_without_a_cluster_ip_have_no_rule() -> None:
    services = [
        service("bare", "None", {"port": 80}),
        service("alias", "", {"port": 80}, type="ExternalName", externalName="web.shop"),
    ]
    slices = [slice_of("bare", endpoint("10.244.7.3")), slice_of("alias", endpoint("10.244.7.4"))]
    assert destinations(rules(services, slices)) == []


def test_other_address_families_are_left_out() -> None:
    assert destinations(rules([WEB], [slice_of("web", endpoint("fd00::1"), kind="IPv6")])) == []


def test_the_service_of_the_api_server_ignores_its_slices() -> None:
    kubernetes = service("kubernetes", "10.96.0.1", {"name": "https", "port": 443})
    kubernetes["metadata"]["namespace"] = "default"
    assert destinations(rules([kubernetes], [])) == [API_SERVER]
