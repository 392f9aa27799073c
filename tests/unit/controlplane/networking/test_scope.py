from __future__ import annotations

import dataclasses

from controlplane.model.service import Protocol, Service
from controlplane.model.snapshot import MeshSnapshot
from controlplane.networking import build_clusters, build_listeners, build_routes, scope_of
from controlplane.networking.build_cache import BuildCache
from tests.support.meshes import Specs, external_service, mesh, port, service, sidecar_proxy, workload

RATINGS = "ratings.other.svc.cluster.local"
REVIEWS = "reviews.default.svc.cluster.local"


def two_namespaces(**policies: Specs) -> MeshSnapshot:
    return mesh((service("reviews"), []), (service("ratings", namespace="other"), []), **policies)


def hosts(snapshot: MeshSnapshot, **proxy: object) -> set[str]:
    return set(scope_of(BuildCache(), snapshot, sidecar_proxy(**proxy)).services)


def egress(*patterns: str, **fields: object) -> Specs:
    return {"rule": {"egress": [{"hosts": patterns}], **fields}}


def test_without_a_sidecar_resource_the_whole_mesh_is_visible() -> None:
    assert hosts(two_namespaces()) == {REVIEWS, RATINGS}


def test_own_namespace_only() -> None:
    assert hosts(two_namespaces(sidecars=egress("./*"))) == {REVIEWS}


def test_a_host_of_a_namespace() -> None:
    assert hosts(two_namespaces(sidecars=egress(f"other/{RATINGS}"))) == {RATINGS}


def test_all_namespaces() -> None:
    assert hosts(two_namespaces(sidecars=egress("*/*"))) == {REVIEWS, RATINGS}


def test_a_wildcard_of_hosts() -> None:
    assert hosts(two_namespaces(sidecars=egress("*/*.other.svc.cluster.local"))) == {RATINGS}


def test_nothing() -> None:
    assert hosts(two_namespaces(sidecars=egress("~/*"))) == set()


def test_a_service_that_is_not_exported_is_invisible_elsewhere() -> None:
    private = service("ratings", namespace="other", export_to=(".",))
    snapshot = mesh((private, []))
    assert hosts(snapshot) == set()
    assert hosts(snapshot, namespace="other") == {RATINGS}


def test_a_service_exported_to_a_namespace() -> None:
    shared = service("ratings", namespace="other", export_to=("default",))
    snapshot = mesh((shared, []))
    assert hosts(snapshot) == {RATINGS}
    assert hosts(snapshot, namespace="third") == set()


def test_the_destination_of_an_imported_route_is_a_cluster_and_no_host() -> None:
    cache = BuildCache()
    snapshot = two_namespaces(
        sidecars=egress("./*"),
        virtual_services={
            "reviews": {"hosts": [REVIEWS], "http": [{"route": [{"destination": {"host": RATINGS}}]}]}
        },
    )
    assert hosts(snapshot) == {REVIEWS}
    assert set(scope_of(cache, snapshot, sidecar_proxy()).destinations) == {REVIEWS, RATINGS}
    assert f"outbound|9080||{RATINGS}" in build_clusters(cache, snapshot, sidecar_proxy())
    for name in ("9080", "http_proxy"):
        config = build_routes(cache, snapshot, sidecar_proxy(), [name])[name]
        assert [each.name for each in config.virtual_hosts] == [f"{REVIEWS}:9080", "allow_any"]
        assert config.virtual_hosts[0].routes[-1].route.cluster == f"outbound|9080||{RATINGS}"


def test_the_destination_of_a_route_for_connections_has_no_listener() -> None:
    cache = BuildCache()
    db, backup = (
        service(name, port(3306, Protocol.TCP), namespace=namespace, addresses=(address,))
        for name, namespace, address in (("db", "default", "10.96.0.1"), ("backup", "other", "10.96.0.2"))
    )
    to_backup = {"hosts": [db.hostname], "tcp": [{"route": [{"destination": {"host": backup.hostname}}]}]}
    snapshot = mesh((db, []), (backup, []), sidecars=egress("./*"), virtual_services={"db": to_backup})
    assert "10.96.0.1_3306" in build_listeners(cache, snapshot, sidecar_proxy())
    assert "10.96.0.2_3306" not in build_listeners(cache, snapshot, sidecar_proxy())
    assert f"outbound|3306||{backup.hostname}" in build_clusters(cache, snapshot, sidecar_proxy())


def test_a_namespace_sees_its_own_declaration_of_a_host_then_one_for_it_then_everybodys() -> None:
    host = "api.example.com"

    def declared(namespace: str, *export_to: str) -> Service:
        return external_service(
            host, port(80), namespace=namespace, export_to=export_to, declaration=f"{namespace}/api"
        )

    public, named, own = declared("a", "*"), declared("b", "default", "third"), declared("default", ".")
    snapshot = dataclasses.replace(mesh((public, [])), further_services={host: (named, own)})
    for namespace, expected in (("default", own), ("third", named), ("other", public), ("b", public)):
        assert scope_of(BuildCache(), snapshot, sidecar_proxy(namespace=namespace)).services == {
            host: (expected,)
        }


def test_only_the_owner_of_a_host_adds_ports_to_it() -> None:
    host = "api.example.com"

    def declared(namespace: str, number: int, year: str) -> Service:
        name = f"{namespace}/{number}"
        return external_service(host, port(number), namespace=namespace, creation=year, declaration=name)

    first, added = declared("default", 80, "2024"), declared("default", 443, "2026")
    elsewhere, again = declared("other", 8443, "2025"), declared("default", 80, "2025")
    snapshot = dataclasses.replace(mesh((elsewhere, [])), further_services={host: (added, again, first)})
    assert scope_of(BuildCache(), snapshot, sidecar_proxy()).services == {host: (first, added)}


def test_a_sidecar_that_selects_the_workload_comes_before_its_namespaces() -> None:
    snapshot = two_namespaces(
        sidecars={
            "namespace": {"egress": [{"hosts": ["~/*"]}]},
            "mine": {"workloadSelector": {"labels": {"app": "web"}}, "egress": [{"hosts": ["./*"]}]},
        }
    )
    assert hosts(snapshot, labels={"app": "web"}) == {REVIEWS}
    assert hosts(snapshot, labels={"app": "other"}) == set()


def test_the_root_namespaces_sidecar_is_the_meshs_default() -> None:
    snapshot = two_namespaces(sidecars={"istio-system/default": {"egress": [{"hosts": ["./*"]}]}})
    assert hosts(snapshot) == {REVIEWS}
    assert hosts(snapshot, namespace="other") == {RATINGS}


def test_outbound_policy_is_the_sidecars_before_the_meshs() -> None:
    cache = BuildCache()
    snapshot = two_namespaces(
        sidecars={
            "deny": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}, "egress": [{"hosts": ["*/*"]}]}
        }
    )
    assert not scope_of(cache, snapshot, sidecar_proxy()).allow_any_outbound
    assert scope_of(cache, snapshot, sidecar_proxy(namespace="other")).allow_any_outbound
    strict = mesh(allow_any_outbound=False)
    assert not scope_of(cache, strict, sidecar_proxy()).allow_any_outbound


def test_a_virtual_service_of_another_namespace_needs_to_be_exported() -> None:
    cache = BuildCache()
    rule = {"hosts": [RATINGS], "http": [{"route": [{"destination": {"host": RATINGS}}]}]}
    public = two_namespaces(virtual_services={"other/ratings": rule})
    private = two_namespaces(virtual_services={"other/ratings": {**rule, "exportTo": ["."]}})
    assert scope_of(cache, public, sidecar_proxy()).virtual_service(RATINGS) is not None
    assert scope_of(cache, private, sidecar_proxy()).virtual_service(RATINGS) is None


def test_the_older_of_two_virtual_services_counts() -> None:
    def to(version: str) -> dict[str, object]:
        return {
            "hosts": [REVIEWS],
            "http": [{"name": version, "route": [{"destination": {"host": REVIEWS}}]}],
        }

    snapshot = two_namespaces(virtual_services={"older": to("older"), "newer": to("newer")})
    spec = scope_of(BuildCache(), snapshot, sidecar_proxy()).virtual_service(REVIEWS)
    assert spec is not None
    assert spec.http[0].name == "older"


def test_a_virtual_service_for_a_namespace_comes_before_one_for_everybody() -> None:
    def to(status: int, *export_to: str) -> dict[str, object]:
        http = [{"directResponse": {"status": status}}]
        return {"hosts": [RATINGS], "http": http, "exportTo": export_to}

    snapshot = two_namespaces(virtual_services={"other/public": to(200), "mine": to(418, ".")})
    for namespace, status in (("default", 418), ("other", 200)):
        spec = scope_of(BuildCache(), snapshot, sidecar_proxy(namespace=namespace)).virtual_service(RATINGS)
        assert spec is not None
        assert spec.http[0].direct_response is not None
        assert spec.http[0].direct_response.status == status


def test_a_wildcards_routes_come_along_with_one_of_its_hosts() -> None:
    everything = {"hosts": ["*.other.svc.cluster.local"], "http": [{"directResponse": {"status": 418}}]}
    snapshot = two_namespaces(
        sidecars=egress(f"*/{RATINGS}"),
        virtual_services={"other/all": everything, "other/none": {**everything, "hosts": ["*.example.com"]}},
    )
    scope = scope_of(BuildCache(), snapshot, sidecar_proxy())
    assert scope.virtual_service(RATINGS) is not None
    assert len(scope.virtual_services) == 1


def test_proxies_of_a_namespace_share_one_scope() -> None:
    cache = BuildCache()
    snapshot = two_namespaces()
    first = scope_of(cache, snapshot, sidecar_proxy("web", ip="10.0.0.1"))
    assert scope_of(cache, snapshot, sidecar_proxy("api", ip="10.0.0.2")) is first
    assert scope_of(cache, snapshot, sidecar_proxy(namespace="other")) is not first


def test_a_change_of_endpoints_leaves_the_scope_as_it_is() -> None:
    cache = BuildCache()
    snapshot = two_namespaces()
    reviews = snapshot.services[REVIEWS]
    changed = mesh((reviews, [workload("reviews", "10.1.0.1")]))
    after = dataclasses.replace(snapshot, generation=2, endpoints=changed.endpoints)
    assert scope_of(cache, after, sidecar_proxy()) is scope_of(cache, snapshot, sidecar_proxy())
