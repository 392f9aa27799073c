"""The files by which a pod's processes resolve names."""

from __future__ import annotations

from tests.support.node_agent.pod_files import hosts_file, resolv_conf


def test_short_names_are_of_the_pod_s_own_namespace_first() -> None:
    assert resolv_conf("shop", "10.244.7.1").splitlines() == [
        "nameserver 10.244.7.1",
        "search shop.svc.cluster.local svc.cluster.local cluster.local",
        "options ndots:5",
    ]


def test_a_pod_knows_itself_and_its_aliases() -> None:
    aliases = [{"ip": "10.0.0.9", "hostnames": ["legacy", "legacy.example"]}]
    lines = hosts_file("web-0", "10.244.7.3", aliases).splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "10.244.7.3\tweb-0" in lines
    assert "10.0.0.9\tlegacy\tlegacy.example" in lines
