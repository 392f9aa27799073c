"""Which resources may be the cause of a rejection, by the type and the names of the rejected response."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kinds.kind import Viewers
from controlplane.kinds.registry import KINDS
from controlplane.model.proxy import ProxyRejection
from controlplane.model.service import Protocol
from controlplane.model.view import DeclaredService, View
from controlplane.networking.build_cache import BuildCache
from controlplane.networking.scope import scope_of
from controlplane.status.rejections import is_behind
from tests.support.meshes import kind_of, mesh, port, service, sidecar_proxy, workload

REVIEWS = "reviews.default.svc.cluster.local"
REVIEWS_SERVICE = service("reviews", port(9080), port(3306, Protocol.TCP))
POD = workload("reviews", "10.0.0.1")
ANSWER = {"http": [{"directResponse": {"status": 200}}]}
SNAPSHOT = mesh(
    (REVIEWS_SERVICE, [POD]),
    (service("ratings", port(80)), []),
    virtual_services={
        "http": {"hosts": [REVIEWS], **ANSWER},
        "tcp": {"hosts": [REVIEWS], "tcp": [{"route": [{"destination": {"host": REVIEWS}}]}]},
        "wide": {"hosts": ["*.default.svc.cluster.local"], **ANSWER},
        "nobodys": {"hosts": ["nobody.example.com"], **ANSWER},
    },
    destination_rules={"rule": {"host": REVIEWS}, "wide": {"host": "*.default.svc.cluster.local"}},
    sidecars={"sidecar": {}},
    peer_authentications={"strict": {}},
)
VIEWS: dict[str, View] = {
    **{each.key.name: each for each in SNAPSHOT.virtual_services},
    **{f"{each.key.name} rule": each for each in SNAPSHOT.destination_rules},
    "sidecar": SNAPSHOT.sidecars[0],
    "strict": SNAPSHOT.peer_authentications[0],
    "pod": POD,
    "service": (DeclaredService(service=REVIEWS_SERVICE),),
}
EVERY_VIEW = set(VIEWS)


def behind(type_name: str, *names: str, reason: str = "no") -> set[str]:
    rejection = ProxyRejection(type=type_name, names=frozenset(names), reason=reason)
    viewers = Viewers(
        scope=scope_of(BuildCache(), SNAPSHOT, sidecar_proxy()),
        sidecar=None,
        virtual_services=frozenset(),
        hostnames_by_workload={id(POD): [REVIEWS]},
        proxies=(),
    )
    traces = {name: KINDS[kind_of(view)].traces(view, viewers) for name, view in VIEWS.items()}
    return {name for name in VIEWS if is_behind(traces[name], rejection, viewers.scope)}


@pytest.mark.parametrize(
    ("type_name", "names", "expected"),
    [
        ("rds", ["9080"], {"http", "tcp", "wide", "sidecar", "service"}),
        ("rds", ["80"], {"wide", "nobodys", "sidecar"}),
        ("rds", ["http_proxy"], {"http", "tcp", "wide", "nobodys", "sidecar", "service"}),
        ("rds", ["7"], {"sidecar"}),
        ("rds", [f"outbound|9080||{REVIEWS}"], {"http", "tcp", "wide", "sidecar", "service"}),
        ("rds", ["outbound|80||ratings.default.svc.cluster.local"], {"wide", "sidecar"}),
        ("cds", [f"outbound|9080|v1|{REVIEWS}"], {"rule rule", "wide rule", "sidecar", "service", "pod"}),
        ("cds", [f"balanced|9080||{REVIEWS}"], {"rule rule", "wide rule", "sidecar", "service", "pod"}),
        ("cds", ["outbound|80||ratings.default.svc.cluster.local"], {"wide rule", "sidecar"}),
        ("eds", [f"outbound|9080||{REVIEWS}"], {"rule rule", "wide rule", "sidecar", "service", "pod"}),
        ("lds", ["10.0.0.9_3306"], {"tcp", "rule rule", "wide rule", "sidecar", "strict", "service"}),
        ("lds", ["0.0.0.0_80"], {"wide rule", "sidecar", "strict"}),
        ("lds", ["virtualInbound"], {"sidecar", "strict"}),
        ("lds", [f"{REVIEWS}:9080"], {"tcp", "rule rule", "wide rule", "sidecar", "strict", "service"}),
        ("lds", ["a|b", "", "_", "x" * 1000, "9" * 1000], {"sidecar", "strict"}),
    ],
)
def test_names_select_the_resources(type_name: str, names: list[str], expected: set[str]) -> None:
    assert behind(type_name, *names) == expected


@pytest.mark.parametrize(
    ("type_name", "unconcerned"),
    [
        ("cds", {"http", "tcp", "wide", "nobodys", "strict"}),
        ("eds", {"http", "tcp", "wide", "nobodys", "strict"}),
        ("lds", {"http", "wide", "nobodys", "pod"}),
        ("rds", {"rule rule", "wide rule", "strict", "pod"}),
    ],
)
def test_without_names_the_type_decides(type_name: str, unconcerned: set[str]) -> None:
    assert behind(type_name) == EVERY_VIEW - unconcerned


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (f"names: table[{REVIEWS}].ips[0]: '' is not an IP address", {"service"}),
        ("names: table[other.example.com]: is not a host name", set()),
        ("out of memory", set()),
    ],
)
def test_the_message_names_the_host_of_a_rejected_name_table(reason: str, expected: set[str]) -> None:
    assert behind("nds", "names", reason=reason) == expected


def test_of_a_response_with_many_names_any_may_be_the_wrong_one() -> None:
    unrelated: Any = ["outbound|80||ratings.default.svc.cluster.local", "inbound|9080||"]
    assert "rule rule" in behind("cds", *unrelated, f"outbound|9080||{REVIEWS}")
    assert "rule rule" not in behind("cds", *unrelated)
