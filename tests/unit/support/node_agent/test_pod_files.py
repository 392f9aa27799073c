"""The files by which a pod's processes resolve names."""

from __future__ import annotations

from tests.support.node_agent.pod_files import hosts_file, resolv_conf


def test_short_names_are_of_the_pod_s_own_namespace_first() -> None:
    assert resolv_conf("shop", "10.244.7.1").splitlines() == [
        "nameserver 10.244.7.1",
        "search shop.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]


def test_a_pod_s_own_configuration_is_added_to_the_cluster_s() -> None:
    option = {"name": "ndots", "value": "2"}
    config = {
        "searches": ["example.com"],
        "nameservers": ["10.0.0.9"],
        "options": [option, {"name": "edns0"}],
    }
    assert resolv_conf("shop", "10.244.7.1", {"dnsConfig": config}).splitlines() == [
        "nameserver 10.244.7.1",
        "nameserver 10.0.0.9",
        "search shop.svc.cluster.local svc.cluster.local cluster.local example.com",
        "options ndots:2 edns0",
    ]
    assert resolv_conf("shop", "10.244.7.1", {"dnsPolicy": "None", "dnsConfig": config}).splitlines() == [
        "nameserver 10.0.0.9",
        "search example.com",
        "options ndots:2 edns0",
    ]


def test_the_node_s_policy_has_no_search_path() -> None:
    assert resolv_conf("shop", "10.244.7.1", {"dnsPolicy": "Default"}) == "nameserver 10.244.7.1\n"


def test_a_pod_of_a_subdomain_knows_its_full_name() -> None:
    lines = hosts_file("web-0", "10.244.7.3", domain="web.shop.svc.cluster.local").splitlines()
    assert "10.244.7.3\tweb-0.web.shop.svc.cluster.local\tweb-0" in lines


def test_a_pod_knows_itself_and_its_aliases() -> None:
    aliases = [{"ip": "10.0.0.9", "hostnames": ["legacy", "legacy.example"]}]
    lines = hosts_file("web-0", "10.244.7.3", aliases).splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "10.244.7.3\tweb-0" in lines
    assert "10.0.0.9\tlegacy\tlegacy.example" in lines
