from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import TransportSocket
from envoy.config.core.v3.proxy_protocol_pb2 import ProxyProtocolConfig
from envoy.extensions.transport_sockets.proxy_protocol.v3.upstream_proxy_protocol_pb2 import (
    ProxyProtocolUpstreamTransport,
)

from controlplane.networking import build_clusters
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import mesh, port, service, sidecar_proxy

REVIEWS = "reviews.default.svc.cluster.local"
NAMES = ("9080|", "9080|v1", "9090|", "9090|v1")


def clusters(policy: dict[str, Any], subset: dict[str, Any] | None = None) -> dict[str, Cluster]:
    """With a subset v1, and the ports 9080 and 9090."""
    subsets = [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": subset or {}}]
    rule = {"host": REVIEWS, "trafficPolicy": policy, "subsets": subsets}
    snapshot = mesh((service("reviews", port(9080), port(9090)), ()), destination_rules={"rule": rule})
    return build_clusters(BuildCache(), snapshot, sidecar_proxy())


def behind_header(socket: TransportSocket) -> tuple[str, str]:
    """The version of the header, and the name of the socket after it."""
    around = ProxyProtocolUpstreamTransport()
    assert socket.name == "envoy.transport_sockets.upstream_proxy_protocol"
    assert socket.typed_config.Unpack(around)
    return ProxyProtocolConfig.Version.Name(around.config.version), around.transport_socket.name


def first_socket(cluster: Cluster) -> TransportSocket:
    matches = cluster.transport_socket_matches
    return matches[0].transport_socket if matches else cluster.transport_socket


@pytest.mark.parametrize(
    ("settings", "version"), [({}, "V1"), ({"version": "V1"}, "V1"), ({"version": "V2"}, "V2")]
)
def test_the_header_is_before_each_socket_that_an_endpoint_may_have(
    settings: dict[str, str], version: str
) -> None:
    built = clusters({"proxyProtocol": settings})[f"outbound|9080||{REVIEWS}"]
    assert not built.HasField("transport_socket")
    found = {match.name: behind_header(match.transport_socket) for match in built.transport_socket_matches}
    assert found == {
        "tlsMode-istio": (version, "envoy.transport_sockets.tls"),
        "tlsMode-disabled": (version, "envoy.transport_sockets.raw_buffer"),
    }


@pytest.mark.parametrize(("mode", "name"), [("DISABLE", "raw_buffer"), ("SIMPLE", "tls")])
def test_the_header_is_before_the_socket_of_the_rule(mode: str, name: str) -> None:
    policy = {"proxyProtocol": {"version": "V2"}, "tls": {"mode": mode}}
    built = clusters(policy)[f"outbound|9080||{REVIEWS}"]
    assert behind_header(built.transport_socket) == ("V2", f"envoy.transport_sockets.{name}")


def test_a_subset_may_have_another_version_and_a_port_has_that_of_the_host() -> None:
    built = clusters(
        {
            "proxyProtocol": {"version": "V1"},
            "portLevelSettings": [{"port": {"number": 9090}, "tls": {"mode": "DISABLE"}}],
        },
        {"proxyProtocol": {"version": "V2"}},
    )
    versions = {name: behind_header(first_socket(built[f"outbound|{name}|{REVIEWS}"]))[0] for name in NAMES}
    assert versions == {"9080|": "V1", "9080|v1": "V2", "9090|": "V1", "9090|v1": "V2"}
