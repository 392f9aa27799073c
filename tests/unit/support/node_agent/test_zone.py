"""The names of a cluster."""

from __future__ import annotations

from tests.support.node_agent.zone import Records, zone_of
from tests.support.service_objects import collection, endpoint, service, slice_of

SUFFIX = "shop.svc.cluster.local"


def test_a_service_has_its_cluster_ip() -> None:
    zone = zone_of(collection(service("web", "10.96.1.1")), {})
    assert zone[f"web.{SUFFIX}"] == Records(addresses=("10.96.1.1",))


def test_names_above_a_name_exist_without_records() -> None:
    zone = zone_of(collection(service("web", "10.96.1.1")), {})
    for name in (SUFFIX, "svc.cluster.local", "cluster.local"):
        assert zone[name] == Records()
    assert "local" not in zone
    assert "other.svc.cluster.local" not in zone


def test_a_headless_service_has_its_ready_endpoints_each_with_a_name() -> None:
    found = slice_of(
        "db",
        endpoint("10.244.7.3", "db-0"),
        endpoint("10.244.7.4"),
        endpoint("10.244.7.5", "db-2", ready=False),
        endpoint("10.244.7.6", "db-3", ready=False, serving=True, terminating=True),
    )
    zone = zone_of(collection(service("db", "None")), collection(found))
    assert zone[f"db.{SUFFIX}"] == Records(addresses=("10.244.7.3", "10.244.7.4"))
    assert zone[f"db-0.db.{SUFFIX}"] == Records(addresses=("10.244.7.3",))
    assert zone[f"10-244-7-4.db.{SUFFIX}"] == Records(addresses=("10.244.7.4",))
    assert f"db-2.db.{SUFFIX}" not in zone
    assert f"db-3.db.{SUFFIX}" not in zone


def test_an_endpoint_in_two_slices_is_named_once() -> None:
    slices = [slice_of("db", endpoint("10.244.7.3", "db-0"), suffix=suffix) for suffix in ("1", "2")]
    zone = zone_of(collection(service("db", "None")), collection(*slices))
    assert zone[f"db-0.db.{SUFFIX}"] == zone[f"db.{SUFFIX}"] == Records(addresses=("10.244.7.3",))


def test_a_headless_service_without_ready_endpoints_has_no_name() -> None:
    zone = zone_of(
        collection(service("db", "None")), collection(slice_of("db", endpoint("10.244.7.3", ready=False)))
    )
    assert f"db.{SUFFIX}" not in zone


def test_an_external_name_is_an_alias() -> None:
    external = service("pay", "", type="ExternalName", externalName="Pay.Example.")
    assert zone_of(collection(external), {})[f"pay.{SUFFIX}"] == Records(alias="pay.example")
