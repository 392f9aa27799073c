from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster

from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, ServicePort
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.inbound import inbound_ports
from tests.support.meshes import endpoints_of, mesh, port, service, sidecar_proxy, workload

NONE = InterceptionMode.NONE
REVIEWS = sidecar_proxy("reviews", ip="10.1.0.1")


def ingress(*listeners: dict[str, Any]) -> MeshSnapshot:
    return mesh(
        (service("reviews"), []), sidecars={"reviews": {"ingress": listeners, "egress": [{"hosts": ["*/*"]}]}}
    )


def listener(number: int = 9080, protocol: str = "HTTP", **fields: Any) -> dict[str, Any]:
    return {"port": {"number": number, "protocol": protocol, "name": protocol.lower()}, **fields}


def app_cluster(snapshot: MeshSnapshot, number: int = 9080, **proxy: Any) -> Cluster:
    owner = sidecar_proxy("reviews", **{"ip": "10.1.0.1", **proxy})
    return build_clusters(BuildCache(), snapshot, owner)[f"inbound|{number}||"]


def app_address(snapshot: MeshSnapshot, **proxy: Any) -> tuple[str, int] | None:
    """None: the address that the caller dialled."""
    cluster = app_cluster(snapshot, **proxy)
    if cluster.type == Cluster.ORIGINAL_DST:
        assert cluster.lb_policy == Cluster.CLUSTER_PROVIDED
        return None
    ((endpoint,),) = (each.lb_endpoints for each in cluster.load_assignment.endpoints)
    address = endpoint.endpoint.address.socket_address
    return address.address, address.port_value


def test_every_port_of_every_service_that_selects_the_workload() -> None:
    snapshot = mesh(
        (service("reviews", port(9080), port(9090, name="metrics")), []),
        (service("canary", port(9081), selector={"version": "v1"}), []),
        (service("ratings", port(9082)), []),
        (service("reviews", port(9083), namespace="other"), []),
        (service("headless", port(9084), selector={}), []),
    )
    assert [each.number for each in inbound_ports(snapshot, REVIEWS)] == [9080, 9081, 9090]
    assert app_address(snapshot) is None


def test_the_port_is_the_workloads_and_not_the_services() -> None:
    moved = ServicePort(name="http", number=80, protocol=Protocol.HTTP, target_port=8080)
    snapshot = mesh((service("reviews", moved), []))
    assert [each.number for each in inbound_ports(snapshot, REVIEWS)] == [8080]


def test_a_named_target_port_is_looked_up_at_the_workload() -> None:
    named = ServicePort(name="http", number=80, protocol=Protocol.HTTP, target_port="web")
    target = service("reviews", named)
    nowhere = mesh((target, []))
    assert inbound_ports(nowhere, REVIEWS) == ()
    at_8081 = endpoints_of(service("reviews", port(8081)), [workload("reviews", "10.1.0.1")])
    snapshot = MeshSnapshot(services={target.hostname: target}, endpoints={target.hostname: at_8081})
    assert [each.number for each in inbound_ports(snapshot, REVIEWS)] == [8081]


def test_the_ingress_of_a_sidecar_replaces_the_ports_of_services() -> None:
    snapshot = ingress(listener(9080, defaultEndpoint="127.0.0.1:19080"))
    (found,) = inbound_ports(snapshot, sidecar_proxy("reviews", interception_mode=NONE))
    assert (found.number, found.bind, found.app) == (9080, "0.0.0.0", ("127.0.0.1", 19080))
    assert app_address(snapshot, interception_mode=NONE) == ("127.0.0.1", 19080)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, ("127.0.0.1", 9080)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:1", ("::1", 1)),
        ("0.0.0.0:1", ("10.1.0.1", 1)),
        ("[::]:1", ("10.1.0.1", 1)),
    ],
)
def test_default_endpoint(endpoint: str | None, expected: tuple[str, int]) -> None:
    fields = {} if endpoint is None else {"defaultEndpoint": endpoint}
    assert app_address(ingress(listener(**fields)), interception_mode=NONE) == expected


@pytest.mark.parametrize("interception", [InterceptionMode.REDIRECT, InterceptionMode.TPROXY])
@pytest.mark.parametrize(
    ("endpoint", "expected", "source"),
    [
        (None, None, "127.0.0.6"),
        ("127.0.0.1:1", ("127.0.0.1", 1), ""),
        ("0.0.0.0:1", ("10.1.0.1", 1), "127.0.0.6"),
    ],
)
def test_a_captured_connection_goes_to_the_dialled_address_from_one_that_is_not_captured(
    interception: InterceptionMode, endpoint: str | None, expected: tuple[str, int] | None, source: str
) -> None:
    snapshot = ingress(listener(**({} if endpoint is None else {"defaultEndpoint": endpoint})))
    assert app_address(snapshot, interception_mode=interception) == expected
    bound = app_cluster(snapshot, interception_mode=interception).upstream_bind_config
    assert bound.source_address.address == source


def test_without_interception_no_source_address_is_bound() -> None:
    snapshot = ingress(listener(defaultEndpoint="0.0.0.0:1"))
    assert not app_cluster(snapshot, interception_mode=NONE).HasField("upstream_bind_config")


def test_a_workload_with_an_ipv6_address_is_called_by_it() -> None:
    snapshot = mesh((service("reviews"), []))
    assert app_cluster(snapshot, ip="fd00::1").upstream_bind_config.source_address.address == "::6"
    bound = ingress(listener())
    proxy = sidecar_proxy("reviews", ip="fd00::1", interception_mode=NONE)
    (found,) = inbound_ports(bound, proxy)
    assert (found.bind, found.app) == ("::", ("::1", 9080))


@pytest.mark.parametrize(
    ("interception", "capture", "bind"),
    [
        (InterceptionMode.REDIRECT, "DEFAULT", None),
        (InterceptionMode.REDIRECT, "IPTABLES", None),
        (InterceptionMode.REDIRECT, "NONE", "0.0.0.0"),
        (InterceptionMode.TPROXY, "DEFAULT", None),
        (InterceptionMode.TPROXY, "IPTABLES", None),
        (InterceptionMode.TPROXY, "NONE", "0.0.0.0"),
        (InterceptionMode.NONE, "DEFAULT", "0.0.0.0"),
        (InterceptionMode.NONE, "NONE", "0.0.0.0"),
    ],
)
def test_a_port_is_bound_where_it_is_not_captured(
    interception: InterceptionMode, capture: str, bind: str | None
) -> None:
    snapshot = ingress(listener(captureMode=capture))
    (found,) = inbound_ports(snapshot, sidecar_proxy("reviews", interception_mode=interception))
    assert found.bind == bind


def test_an_ingress_of_no_service_has_no_metadata() -> None:
    snapshot = ingress(listener(9080), listener(7000, "TCP"))
    built = build_clusters(BuildCache(), snapshot, REVIEWS)
    (entry,) = built["inbound|9080||"].metadata.filter_metadata["istio"]["services"]
    assert entry["name"] == "reviews"
    assert not built["inbound|7000||"].HasField("metadata")


def test_without_interception_nor_ingress_the_app_listens_by_itself() -> None:
    snapshot = mesh((service("reviews"), []))
    assert inbound_ports(snapshot, sidecar_proxy("reviews", interception_mode=NONE)) == ()


def test_http2_apps_are_spoken_to_in_http2() -> None:
    snapshot = mesh((service("reviews", port(9080), port(9090, Protocol.GRPC)), []))
    built = build_clusters(BuildCache(), snapshot, REVIEWS)
    assert built["inbound|9090||"].typed_extension_protocol_options
    assert not built["inbound|9080||"].typed_extension_protocol_options


def test_inbound_passthrough_cannot_come_back_through_redirection() -> None:
    found = build_clusters(BuildCache(), mesh(), REVIEWS)["InboundPassthroughCluster"]
    assert found.type == Cluster.ORIGINAL_DST
    assert found.upstream_bind_config.source_address.address == "127.0.0.6"


def test_a_namesake_in_another_namespace_does_not_say_where_the_workload_listens() -> None:
    named = ServicePort(name="http", number=80, protocol=Protocol.HTTP, target_port="web")
    target = service("reviews", named)
    namesake = workload("reviews", "10.9.9.9", namespace="other")
    elsewhere = endpoints_of(service("reviews", port(8081)), [namesake])
    snapshot = MeshSnapshot(services={target.hostname: target}, endpoints={target.hostname: elsewhere})
    assert inbound_ports(snapshot, REVIEWS) == ()
