from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from controlplane.kinds.registry import KINDS
from controlplane.model.known_workloads import KnownWorkloads
from controlplane.model.mesh_config import MeshConfig
from controlplane.model.proxy import InterceptionMode
from controlplane.model.service import Protocol, Resolution, Service, Workload
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_listeners, build_names
from controlplane.networking.build_cache import BuildCache
from protos.nds_pb2 import NameTable
from protos.type_urls import NAME_TABLE
from sidecar.config.name_table import NameTable as DecodedTable
from sidecar.xds.decode import decode_resource
from tests.support.documents import document, key_of
from tests.support.meshes import external_service, grpc_proxy, mesh, port, service, sidecar_proxy, workload

REVIEWS = "reviews.default.svc.cluster.local"
KAFKA = "kafka.default.svc.cluster.local"
TCP = port(5432, Protocol.TCP)


def table(snapshot: MeshSnapshot, **proxy: Any) -> dict[str, NameTable.NameInfo]:
    proxy = {"captures_dns": True, **proxy}
    return dict(build_names(BuildCache(), snapshot, sidecar_proxy(**proxy))["names"].table)


def of(*services: Service, **proxy: Any) -> dict[str, list[str]]:
    found = table(mesh(*((each, []) for each in services)), **proxy)
    return {host: list(info.ips) for host, info in found.items()}


def entry(host: str, *ports: Any, **fields: Any) -> Service:
    return external_service(host, *(ports or (TCP,)), automatic_address=True, **fields)


def headless(workloads: Sequence[Workload]) -> MeshSnapshot:
    target = service("kafka", TCP, port(9092, Protocol.TCP, "other"), headless=True)
    snapshot = mesh((target, workloads))
    named = tuple(
        dataclasses.replace(each, hostname=each.workload.labels.get("hostname", ""))
        for each in snapshot.endpoints.get(KAFKA, ())
    )
    return dataclasses.replace(snapshot, endpoints={KAFKA: named})


def test_a_service_of_the_cluster_has_its_virtual_ips_and_the_parts_of_its_short_names() -> None:
    info = table(mesh((service("reviews", addresses=("10.1.2.3", "fd00::3")), [])))[REVIEWS]
    assert list(info.ips) == ["10.1.2.3", "fd00::3"]
    assert (info.registry, info.shortname, info.namespace) == ("Kubernetes", "reviews", "default")


def test_a_host_of_a_service_entry_has_its_addresses_without_its_networks() -> None:
    found = table(mesh((external_service("*.example.com", TCP, addresses=("10.9.0.1", "10.8.0.0/16")), [])))
    assert list(found["*.example.com"].ips) == ["10.9.0.1"]
    assert (found["*.example.com"].registry, found["*.example.com"].shortname) == ("External", "")


def test_a_host_without_addresses_gets_an_automatic_one_of_the_familes_of_the_pod() -> None:
    target = entry("db.example.com")
    assert of(target)["db.example.com"][0].startswith("240.240.")
    assert of(target, ip="fd00::1")["db.example.com"][0].startswith("2001:2::f0f0:")
    dual = Workload(name="a", namespace="default", address="10.0.0.1", addresses=("10.0.0.1", "fd00::1"))
    snapshot = dataclasses.replace(
        mesh((target, [])), known_workloads=KnownWorkloads(pods={("default", "a"): dual})
    )
    assert len(table(snapshot, workload="a")["db.example.com"].ips) == 2


@pytest.mark.parametrize(
    "proxy",
    [{"captures_dns": False}, {"interception_mode": InterceptionMode.NONE}],
    ids=["no DNS", "no redirect"],
)
def test_a_proxy_that_could_not_redirect_automatic_addresses_does_not_see_them(proxy: dict[str, Any]) -> None:
    assert not of(entry("db.example.com"), **proxy)
    listeners = build_listeners(
        BuildCache(), mesh((entry("db.example.com"), [])), sidecar_proxy(**{"captures_dns": True, **proxy})
    )
    assert not [name for name in listeners if name.startswith("240.")]


@pytest.mark.parametrize(
    "target",
    [
        external_service("a.example.com", TCP, resolution=Resolution.NONE),
        external_service("*.example.com", TCP),
        external_service("a.example.com", TCP, addresses=("10.8.0.0/16",)),
        service("external", external_name="a.example.com", resolution=Resolution.DNS),
        service("empty", TCP, headless=True),
    ],
    ids=["resolution NONE", "wildcard", "network", "ExternalName", "no ready pod"],
)
def test_a_host_without_an_address_is_left_to_the_resolvers_of_the_pod(target: Service) -> None:
    assert not of(target)


@pytest.mark.parametrize(
    "host",
    [
        *(["fd00::1", "*-v1.example.com", "*." + ".".join(["a" * 60] * 5)]),
        *(
            [
                "a.example.com",
                "*.example.com",
                "1.2.3.4",
                "a_b.example.com",
                "xn--4ca.example",
                "a" * 63 + ".b",
            ]
        ),
    ],
)
def test_every_host_that_may_be_declared_is_accepted_by_the_sidecar_or_left_out(host: str) -> None:
    """One refused host would keep all other names out of force."""
    spec = {"hosts": [host], "addresses": ["10.0.0.1"], "resolution": "STATIC"}
    parsed = KINDS.parse(document("ServiceEntry", "a", spec))
    (declared,) = KINDS["ServiceEntry"].view(
        key_of(document("ServiceEntry", "a", spec)), parsed.metadata, parsed.spec, MeshConfig()
    )
    built = build_names(BuildCache(), mesh((declared.service, [])), sidecar_proxy(captures_dns=True))["names"]
    decoded = decode_resource(NAME_TABLE, built.SerializeToString())
    assert isinstance(decoded, DecodedTable)
    assert len(decoded.hosts) == (0 if ":" in host or len(host) > 253 or host.startswith("*-") else 1)


def test_a_host_with_a_declaration_that_needs_its_real_address_gets_no_automatic_one() -> None:
    first = entry("a.example.com", declaration="default/a")
    real = external_service("a.example.com", port(80), resolution=Resolution.NONE, declaration="default/b")
    snapshot = dataclasses.replace(mesh((first, [])), further_services={"a.example.com": (real,)})
    assert not table(snapshot)


def test_the_host_of_a_headless_service_has_all_ready_pods_and_each_pod_has_its_own() -> None:
    pods = [
        workload(
            "kafka",
            f"10.0.1.{number}",
            str(number),
            labels={"hostname": f"kafka-{number}"},
            healthy=number != 1,
        )
        for number in range(3)
    ]
    pods.append(workload("kafka", "10.0.1.9", "9"))
    found = table(headless(pods))
    assert list(found[KAFKA].ips) == ["10.0.1.0", "10.0.1.2", "10.0.1.9"]
    assert found.keys() == {KAFKA, f"kafka-0.{KAFKA}", f"kafka-2.{KAFKA}"}
    member = found[f"kafka-2.{KAFKA}"]
    assert (list(member.ips), member.shortname, member.namespace) == (
        ["10.0.1.2"],
        "kafka-2.kafka",
        "default",
    )


def test_a_proxy_resolves_only_the_hosts_that_it_may_request() -> None:
    snapshot = mesh(
        (service("reviews", addresses=("10.1.2.3",)), []),
        (service("ratings", addresses=("10.1.2.4",)), []),
        sidecars={"default": {"egress": [{"hosts": ["./reviews.default.svc.cluster.local"]}]}},
    )
    assert table(snapshot).keys() == {REVIEWS}


def test_the_table_is_the_same_object_while_nothing_that_it_contains_changes() -> None:
    cache, snapshot = BuildCache(), mesh((service("reviews", addresses=("10.1.2.3",)), []))
    one, other = (build_names(cache, snapshot, sidecar_proxy(name))["names"] for name in ("a", "b"))
    assert one is other


def test_a_grpc_client_has_no_name_table() -> None:
    assert not build_names(BuildCache(), mesh(), grpc_proxy())


class TestListeners:
    """Of proxies that capture DNS."""

    def built(self, *services: Service) -> Any:
        snapshot = mesh(*((each, []) for each in services))
        return build_listeners(BuildCache(), snapshot, sidecar_proxy(captures_dns=True)), {
            host: info.ips[0] for host, info in table(snapshot).items()
        }

    def test_two_tcp_hosts_of_one_port_are_told_apart(self) -> None:
        listeners, ips = self.built(entry("a.example.com"), entry("b.example.com"))
        for host in ("a.example.com", "b.example.com"):
            (chain,) = listeners[f"{ips[host]}_5432"].filter_chains
            assert chain.name == host
        assert "0.0.0.0_5432" not in listeners

    def test_a_tls_host_is_found_by_its_server_name_too(self) -> None:
        listeners, ips = self.built(entry("a.example.com", port(443, Protocol.TLS)))
        (by_name,) = listeners["0.0.0.0_443"].filter_chains
        assert list(by_name.filter_chain_match.server_names) == ["a.example.com"]
        (by_address,) = listeners[f"{ips['a.example.com']}_443"].filter_chains
        assert not by_address.filter_chain_match.server_names

    def test_http_hosts_still_share_a_listener(self) -> None:
        listeners, ips = self.built(entry("a.example.com", port(80)))
        assert "0.0.0.0_80" in listeners
        assert f"{ips['a.example.com']}_80" not in listeners
