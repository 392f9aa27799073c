"""Which proxies a resource affects, in small meshes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controlplane.model.proxy import ProxyProgress, ProxyRejection
from controlplane.model.snapshot import MeshSnapshot
from controlplane.model.view import DeclaredService, View
from controlplane.networking.build_cache import BuildCache
from controlplane.status.affected_proxies import AffectedProxies, Reach
from tests.support.meshes import external_service, kind_of, mesh, port, service, sidecar_proxy, workload

REVIEWS = {"hosts": ["reviews.default.svc.cluster.local"], "http": [{"directResponse": {"status": 200}}]}


def proxy(name: str, generation: int = 1, *rejections: ProxyRejection, **fields: Any) -> ProxyProgress:
    """It has answered all that there is."""
    return ProxyProgress(
        proxy=sidecar_proxy(id=name, **fields), generation=generation, answered=99, rejections=rejections
    )


def behind(name: str, generation: int, **fields: Any) -> ProxyProgress:
    """It has not answered yet."""
    return replace(proxy(name, generation, **fields), answered=generation)


def refused(type_name: str, *names: str, reason: str = "no") -> ProxyRejection:
    return ProxyRejection(type=type_name, names=frozenset(names), reason=reason)


def elsewhere(name: str = "elsewhere") -> ProxyProgress:
    return proxy(name, namespace="other")


def concerned(snapshot: MeshSnapshot, view: View, *proxies: ProxyProgress) -> int:
    return AffectedProxies(BuildCache(), snapshot, proxies).reach(kind_of(view), view, since=1).concerned


class TestProgress:
    snapshot = mesh((service("reviews"), []), virtual_services={"reviews": REVIEWS})

    def reach(self, since: int, *proxies: ProxyProgress) -> Reach:
        return AffectedProxies(BuildCache(), self.snapshot, proxies).reach(
            "VirtualService", self.snapshot.virtual_services[0], since
        )

    def test_a_proxy_that_has_reached_the_version_has_acknowledged_it(self) -> None:
        proxies = [behind("a", 4), behind("b", 5), behind("c", 6, app="other"), behind("d", 0)]
        assert self.reach(5, *proxies) == Reach(concerned=4, acknowledged=2)
        assert self.reach(7, *proxies) == Reach(concerned=4, acknowledged=0)

    def test_a_rejection_of_a_newer_version_does_not_undo_an_acknowledgement(self) -> None:
        assert self.reach(5, proxy("a", 5, refused("rds", "9080"))) == Reach(concerned=1, acknowledged=1)

    def test_all_rejections_are_reported_in_a_stable_order(self) -> None:
        one, two = refused("rds", "9080", reason="one"), refused("rds", "9080", reason="two")
        proxies = [proxy("b", 1, two), proxy("a", 1, one, app="other"), proxy("c", 9)]
        expected = Reach(concerned=3, acknowledged=1, refusals=(("a", one), ("b", two)))
        assert self.reach(5, *proxies) == self.reach(5, *reversed(proxies)) == expected

    def test_a_rejection_of_an_unrelated_resource_counts_as_acknowledged(self) -> None:
        for rejection in (
            refused("cds", "outbound|9080||reviews.default.svc.cluster.local"),
            refused("rds", "80"),
        ):
            assert self.reach(5, proxy("a", 1, rejection)) == Reach(concerned=1, acknowledged=1)
            assert self.reach(5, replace(proxy("a", 1, rejection), answered=4)) == Reach(concerned=1)

    def test_without_proxies_none_is_affected(self) -> None:
        assert self.reach(1) == Reach()


def test_a_virtual_service_affects_the_proxies_that_see_it() -> None:
    snapshot = mesh((service("reviews"), []), virtual_services={"reviews": {**REVIEWS, "exportTo": ["."]}})
    [view] = snapshot.virtual_services
    assert concerned(snapshot, view, proxy("a"), proxy("b", app="other"), elsewhere()) == 2


def test_a_destination_rule_affects_the_proxies_that_it_applies_to() -> None:
    rules = {
        "other/theirs": {"host": "reviews.default.svc.cluster.local"},
        "default/wide": {"host": "*.default.svc.cluster.local"},
        "default/nobodys": {"host": "gone.default.svc.cluster.local"},
    }
    snapshot = mesh((service("reviews"), []), destination_rules=rules)
    theirs, wide, nobodys = snapshot.destination_rules
    proxies = [proxy("a"), proxy("b"), elsewhere()]
    assert concerned(snapshot, wide, *proxies) == 2
    assert concerned(snapshot, theirs, *proxies) == 1
    assert concerned(snapshot, nobodys, *proxies) == 0


def test_a_service_entry_affects_the_proxies_that_see_one_of_its_hosts() -> None:
    seen = external_service("api.example.com", port(80), export_to=(".",))
    snapshot = mesh((seen, []))
    unseen = external_service("taken.example.com", port(80))
    view = (DeclaredService(service=unseen), DeclaredService(service=seen))
    assert concerned(snapshot, view, proxy("a"), elsewhere()) == 1
    assert concerned(snapshot, view[:1], proxy("a"), elsewhere()) == 0


def test_a_workload_entry_affects_the_proxies_that_see_its_service() -> None:
    behind, alone = workload("reviews", "10.0.0.1"), workload("alone", "10.0.0.2")
    snapshot = mesh((service("reviews", export_to=(".",)), [behind]))
    assert concerned(snapshot, behind, proxy("a"), elsewhere()) == 1
    assert concerned(snapshot, alone, proxy("a"), elsewhere()) == 0


def test_a_sidecar_affects_the_proxies_that_it_covers() -> None:
    specs = {
        "chosen": {"workloadSelector": {"labels": {"app": "reviews"}}, "egress": [{"hosts": ["*/*"]}]},
        "rest": {"egress": [{"hosts": ["./*"]}]},
    }
    snapshot = mesh((service("reviews"), []), sidecars=specs)
    chosen, rest = snapshot.sidecars
    proxies = [proxy("a", app="reviews", labels={"app": "reviews"}), proxy("b"), proxy("c"), elsewhere()]
    assert concerned(snapshot, chosen, *proxies) == 1
    assert concerned(snapshot, rest, *proxies) == 2


def test_a_peer_authentication_affects_the_proxies_that_it_selects() -> None:
    strict = {"mtls": {"mode": "STRICT"}}
    policies = {
        "istio-system/mesh": strict,
        "default/namespace": strict,
        "default/one": {**strict, "selector": {"matchLabels": {"app": "reviews"}}},
        "istio-system/selecting": {**strict, "selector": {"matchLabels": {"app": "reviews"}}},
    }
    snapshot = mesh(peer_authentications=policies, root_namespace="istio-system")
    proxies = [proxy("a", labels={"app": "reviews"}), proxy("b"), elsewhere()]
    counts = [concerned(snapshot, view, *proxies) for view in snapshot.peer_authentications]
    assert counts == [3, 2, 1, 0]
