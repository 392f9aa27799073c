from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from controlplane.api.app import Mesh, debug_app
from controlplane.errors import ProxyError
from controlplane.model.service import Protocol, Registry, Service, ServiceEndpoint, ServicePort, Workload
from controlplane.model.snapshot import MeshSnapshot, ResourceKey
from controlplane.model.status import Origin, ResourceStatus, State
from controlplane.resources.foreign import AUTHORIZATION_POLICY
from controlplane.sources.foreign_resources import ForeignResources

REVIEWS = Service(
    hostname="reviews.bookinfo.svc.cluster.local",
    name="reviews",
    namespace="bookinfo",
    registry=Registry.KUBERNETES,
    ports=(ServicePort(name="http", number=9080, protocol=Protocol.HTTP, target_port=9080),),
)
RATINGS = Service(
    hostname="ratings.bookinfo.svc.cluster.local",
    name="ratings",
    namespace="bookinfo",
    registry=Registry.KUBERNETES,
    ports=(),
)
ENDPOINT = ServiceEndpoint(
    service_port="http",
    address="127.0.0.1",
    port=4001,
    workload=Workload(name="reviews-v1", namespace="bookinfo", address="127.0.0.1", mesh_tls=True),
)
SNAPSHOT = MeshSnapshot(
    services={REVIEWS.hostname: REVIEWS, RATINGS.hostname: RATINGS}, endpoints={REVIEWS.hostname: (ENDPOINT,)}
)
BROKEN = ResourceStatus(
    key=ResourceKey(kind="VirtualService", namespace="bookinfo", name="reviews"),
    state=State.QUARANTINED,
    origin=Origin(file="reviews.yaml", line=3),
    generation=2,
    in_force=True,
    reasons=("spec.http[0].rout: unknown field; did you mean `route`?",),
    since="2026-01-01T00:00:00Z",
)
PROXY_ID = "sidecar~1~a.b~c"


class SyncState(Enum):
    STALE = "STALE"


@dataclass(frozen=True, slots=True)
class Stream:
    proxy_id: str
    state: SyncState


def config_dump(proxy_id: str) -> dict[str, Any]:
    if proxy_id != PROXY_ID:
        raise ProxyError(f"no proxy {proxy_id!r} is connected")
    return {"configs": []}


def client(**changes: Any) -> httpx.AsyncClient:
    answers: dict[str, Any] = {
        "snapshot": lambda: SNAPSHOT,
        "statuses": lambda: [BROKEN],
        "proxies": lambda: [Stream(PROXY_ID, SyncState.STALE)],
        "config_dump": config_dump,
    }
    transport = httpx.ASGITransport(app=debug_app(Mesh(**answers | changes)))
    return httpx.AsyncClient(transport=transport, base_url="http://control-plane")


async def get(path: str, **changes: Any) -> httpx.Response:
    async with client(**changes) as http:
        return await http.get(path)


async def test_the_process_is_healthy_before_it_is_ready() -> None:
    assert (await get("/healthz", snapshot=lambda: None)).status_code == 200
    not_ready = await get("/ready", snapshot=lambda: None)
    assert not_ready.status_code == 503
    assert not_ready.json() == {"detail": "the resources have not been read yet"}
    assert (await get("/ready")).text == "ready\n"


async def test_registryz_lists_services_with_their_ports() -> None:
    services = (await get("/debug/registryz")).json()
    assert [service["name"] for service in services] == ["ratings", "reviews"]
    assert services[1]["ports"] == [{"name": "http", "number": 9080, "protocol": "HTTP", "target_port": 9080}]


async def test_endpointz_lists_services_without_endpoints_too() -> None:
    ratings, reviews = (await get("/debug/endpointz")).json()
    assert ratings == {"hostname": RATINGS.hostname, "endpoints": []}
    assert reviews["endpoints"][0]["workload"] == "bookinfo/reviews-v1"
    assert reviews["endpoints"][0]["port"] == 4001
    assert reviews["endpoints"][0]["mesh_tls"] is True


async def test_statusz_says_why_a_resource_is_quarantined() -> None:
    assert (await get("/debug/statusz")).json() == {
        "resources": [
            {
                "kind": "VirtualService",
                "namespace": "bookinfo",
                "name": "reviews",
                "state": "QUARANTINED",
                "in_force": True,
                "origin": "reviews.yaml:3",
                "generation": 2,
                "reasons": ["spec.http[0].rout: unknown field; did you mean `route`?"],
                "warnings": [],
                "unresolved": [],
                "serving_generation": 0,
                "since": "2026-01-01T00:00:00Z",
                "rejections": [],
            }
        ]
    }


async def test_statusz_lists_the_kinds_that_are_not_supported() -> None:
    resources = ForeignResources(CollectorRegistry())
    resources.update(AUTHORIZATION_POLICY, present=[("bookinfo", "deny-all")])
    async with client(unsupported=resources.listing) as debug:
        assert (await debug.get("/debug/statusz")).json()["unsupported"] == [
            {
                "group": "security.istio.io",
                "kind": "AuthorizationPolicy",
                "consequence": "it has no effect, and no request is denied",
                "count": 1,
                "resources": ["bookinfo/deny-all"],
            }
        ]


async def test_syncz_and_config_dump_show_connected_proxies() -> None:
    assert (await get("/debug/syncz")).json() == [{"proxy": PROXY_ID, "state": "STALE"}]
    assert (await get("/debug/config_dump?proxy=sidecar~1~a.b~c")).json() == {"configs": []}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/debug/config_dump", 400, "name a proxy"),
        ("/debug/config_dump?proxy=stranger", 404, "no proxy 'stranger' is connected; /debug/syncz lists"),
        (
            "/debug/nothing",
            404,
            "'/debug/nothing' does not exist; the paths are /healthz, /ready, /debug/syncz",
        ),
    ],
)
async def test_errors_have_a_description(path: str, status: int, words: str) -> None:
    answer = await get(path)
    assert answer.status_code == status
    assert words in answer.json()["detail"]
