from __future__ import annotations

import pytest

from sidecar.dns.names import Surroundings, surroundings

NODE = "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local"


def test_the_namespace_and_the_domain_are_those_of_the_node_id() -> None:
    assert surroundings(
        NODE, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    ) == Surroundings("shop", "svc.cluster.local", "shop.svc.cluster.local")


@pytest.mark.parametrize(
    "search", [[], ["corp.example.com", "shop.svc.cluster.local"], ["evilsvc.cluster.local"]]
)
def test_a_search_domain_elsewhere_has_names_of_its_own(search: list[str]) -> None:
    assert surroundings(NODE, search).suffix == ""


def test_a_node_id_of_another_format_has_no_short_names() -> None:
    assert surroundings("envoy-1", ["Lan.example."]) == Surroundings("", "", "lan.example")
