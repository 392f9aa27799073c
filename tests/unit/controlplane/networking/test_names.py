from __future__ import annotations

import pytest

from controlplane.networking import endpoints_hostname
from controlplane.networking.names import OutboundName, parse_port

REVIEWS = "reviews.default.svc.cluster.local"


def test_a_cluster_name_survives_a_round_trip() -> None:
    name = f"outbound|9080|v1|{REVIEWS}"
    parsed = OutboundName.parse(name)
    assert parsed == OutboundName(9080, "v1", REVIEWS)
    assert str(parsed) == name


def test_the_server_name_of_mesh_tls_is_istios() -> None:
    assert OutboundName(9080, "v1", REVIEWS).sni == f"outbound_.9080_.v1_.{REVIEWS}"


@pytest.mark.parametrize(
    "name",
    ["", "BlackHoleCluster", "inbound|9080||", "outbound|x||host", "outbound|²||host", "outbound|1|host"],
)
def test_other_names_are_not_outbound(name: str) -> None:
    assert OutboundName.parse(name) is None
    assert endpoints_hostname(name) == ""


def test_endpoints_come_from_the_host_of_their_cluster() -> None:
    assert endpoints_hostname(f"outbound|9080|v1|{REVIEWS}") == REVIEWS


@pytest.mark.parametrize("port", ["9" * 5000, "-1", "+80", " 80", "8_0", "²", ""])
def test_an_invalid_port_of_a_name_is_not_parsed(port: str) -> None:
    assert parse_port(port) is None
    assert OutboundName.parse(f"outbound|{port}||host") is None
