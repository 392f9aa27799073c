from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from sidecar.admin.server import ENDPOINTS, METRICS_ENDPOINTS, STATUS_ENDPOINTS, AdminService
from sidecar.admin.state import AdminView, ServerState
from sidecar.config.cluster import CircuitBreakers, Discovery, OutlierDetection
from sidecar.config.endpoint import HealthStatus, Locality, SocketAddress
from sidecar.errors import ConfigError, InternalError, WorkerError
from sidecar.http.message import Response
from sidecar.identity.certs import CertificatesInUse
from sidecar.listener.manager import ListenerState, ListenerStatus
from sidecar.observability.exposition import ExtraStats
from sidecar.observability.report import DnsReport, ResolvedHost, StatsReport
from sidecar.observability.stats import Stats
from sidecar.upstream.cluster_manager import ClusterManager
from sidecar.upstream.status import ClusterStatus, cluster_status
from tests.support.clusters import at_port, cluster_manager, static_cluster
from tests.support.requests import make_request

NAMES = DnsReport(
    has_table=True,
    upstreams=("10.96.0.10:53",),
    suffix="default.svc.cluster.local",
    hosts=(
        ResolvedHost(name="db.example.com", addresses=("240.240.0.1",), registry="External"),
        ResolvedHost(
            name="reviews.default.svc.cluster.local",
            addresses=("10.0.0.1", "fd00::1"),
            registry="Kubernetes",
            short_names=("reviews", "reviews.default"),
        ),
    ),
)


@dataclass
class FakeWorker:
    counted: Stats
    served: ClusterManager | tuple[()]
    asked: list[int] = field(default_factory=list)
    fails_after: int | None = None

    async def stats(self) -> StatsReport:
        self._check()
        return StatsReport(counters=tuple(self.counted.sets()))

    async def clusters(self, names: Sequence[str]) -> list[ClusterStatus]:
        self._check()
        self.asked.append(len(names))
        return [cluster_status(cluster) for cluster in self.served if cluster.name in names]

    def _check(self) -> None:
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise WorkerError("worker 2 does not answer")

    async def listeners(self) -> list[ListenerStatus]:
        return [
            ListenerStatus(
                name=state.value, address=SocketAddress("0.0.0.0", 15001), state=state, active_connections=0
            )
            for state in ListenerState
        ]

    async def certificates(self) -> list[CertificatesInUse]:
        return []


@dataclass
class Sidecar:
    """What the endpoints may see and do."""

    stats: Stats = field(default_factory=Stats)
    state: ServerState = ServerState.LIVE
    clusters: ClusterManager | tuple[()] = ()
    drained: list[tuple[bool, bool, bool]] = field(default_factory=list)
    quits: int = 0
    reopenings: int = 0
    levels: list[Mapping[str, int]] = field(default_factory=list)
    dumps: list[dict[str, Any]] = field(default_factory=list)
    dns: DnsReport | None = NAMES

    def __post_init__(self) -> None:
        self.worker = FakeWorker(self.stats, self.clusters)

    def view(self) -> AdminView:
        return AdminView(
            workers=self.worker,
            extra_stats=self._extra_stats,
            clusters=lambda: {cluster.name: cluster.config for cluster in self.clusters},
            config_dump=self._dump,
            server_info=lambda: {"version": "outrigger/1"},
            server_state=lambda: self.state,
            is_dynamic=lambda name: name == "dynamic",
            drain=self._drain,
            quit=self._quit,
            reopen_logs=self._reopen,
            set_log_levels=self._set_log_levels,
            dns=self._names if self.dns is not None else None,
        )

    def _names(self) -> DnsReport:
        assert self.dns is not None
        return self.dns

    async def _drain(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        self.drained.append((inbound_only, graceful, skip_exit))

    def _quit(self) -> None:
        self.quits += 1

    async def _reopen(self) -> None:
        self.reopenings += 1

    async def _set_log_levels(self, levels: Mapping[str, int]) -> None:
        self.levels.append(levels)

    async def _extra_stats(self) -> ExtraStats:
        return [("server.live", 1)]

    def _dump(self, **query: Any) -> dict[str, Any]:
        self.dumps.append(query)
        if query["resource"] == "nonsense":
            raise ConfigError("resource", "nonsense is not a repeated field")
        if query["name_regex"] == "(":
            raise ConfigError("name_regex", "does not compile")
        return {"configs": []}

    async def ask(self, path: str, method: str = "GET") -> Response:
        return await AdminService(self.view())(make_request(path.encode(), method=method.encode()))


async def text_of(response: Response) -> str:
    if isinstance(response.body, bytes):
        return response.body.decode()
    pieces = []
    while data := await response.body.read():
        pieces.append(data)
    return b"".join(pieces).decode()


async def test_every_endpoint_answers() -> None:
    sidecar = Sidecar()
    for path, endpoint in ENDPOINTS.items():
        assert (await sidecar.ask(path, "POST" if endpoint.mutates else "GET")).status == 200, path
        assert path in await text_of(await sidecar.ask("/help"))


async def test_an_unknown_path_is_answered_with_the_known_ones() -> None:
    response = await Sidecar().ask("/nonsense?x=1")
    assert response.status == 404
    body = await text_of(response)
    assert body.startswith("invalid path. admin commands are:\n")
    assert "  /quitquitquit (POST): " in body


async def test_the_names_that_dns_answers_are_shown() -> None:
    assert await text_of(await Sidecar().ask("/dns")) == (
        "other names are passed to: 10.96.0.10:53\n"
        "search domain: default.svc.cluster.local\n"
        "db.example.com: 240.240.0.1 (External)\n"
        "reviews.default.svc.cluster.local: 10.0.0.1, fd00::1 (Kubernetes) also reviews, reviews.default\n"
    )
    [found] = json.loads(await text_of(await Sidecar().ask("/dns?format=json&filter=^db")))["hosts"]
    assert found == {
        "name": "db.example.com",
        "addresses": ["240.240.0.1"],
        "registry": "External",
        "short_names": [],
    }


async def test_a_sidecar_that_does_not_capture_dns_says_so() -> None:
    response = await Sidecar(dns=None).ask("/dns")
    assert response.status == 404
    assert "--dns-capture" in await text_of(response)


async def test_nothing_changes_but_by_post() -> None:
    sidecar = Sidecar()
    for path in ("/quitquitquit", "/drain_listeners", "/reopen_logs", "/logging?level=debug"):
        response = await sidecar.ask(path)
        assert response.status == 405
        assert await text_of(response) == "Method GET not allowed, POST required."
    assert (sidecar.quits, sidecar.drained, sidecar.reopenings) == (0, [], 0)
    await sidecar.ask("/quitquitquit", "POST")
    assert sidecar.quits == 1
    assert await text_of(await sidecar.ask("/reopen_logs", "POST")) == "OK\n"
    assert sidecar.reopenings == 1


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (False, False, False)),
        ("?inboundonly", (True, False, False)),
        ("?graceful", (False, True, False)),
        ("?inboundonly&graceful&skip_exit", (True, True, True)),
    ],
)
async def test_draining_takes_its_parameters(query: str, asked: tuple[bool, bool, bool]) -> None:
    sidecar = Sidecar()
    await sidecar.ask(f"/drain_listeners{query}", "POST")
    assert sidecar.drained == [asked]


async def test_only_a_graceful_drain_skips_the_exit() -> None:
    sidecar = Sidecar()
    response = await sidecar.ask("/drain_listeners?skip_exit", "POST")
    assert response.status == 400
    assert sidecar.drained == []


@pytest.mark.parametrize("state", list(ServerState))
async def test_ready_is_200_when_live_alone(state: ServerState) -> None:
    response = await Sidecar(state=state).ask("/ready")
    assert response.status == (200 if state is ServerState.LIVE else 503)
    assert await text_of(response) == f"{state.value}\n"


async def test_the_query_selects_the_parts_of_the_config_dump() -> None:
    sidecar = Sidecar()
    await sidecar.ask("/config_dump?include_eds&resource=dynamic_listeners&name_regex=a.%2A")
    assert sidecar.dumps == [
        {"include_eds": True, "resource": "dynamic_listeners", "name_regex": "a.*"},
    ]
    for query, status, words in (
        ("resource=nonsense", 404, "not a repeated field"),
        ("name_regex=(", 400, "does not compile"),
        ("mask=bootstrap", 400, "mask is not supported"),
    ):
        response = await sidecar.ask(f"/config_dump?{query}")
        assert response.status == status
        assert words in await text_of(response)


async def test_only_active_listeners_listen() -> None:
    assert await text_of(await Sidecar().ask("/listeners")) == "active::0.0.0.0:15001\n"
    shown = json.loads(await text_of(await Sidecar().ask("/listeners?format=json")))
    assert [status["name"] for status in shown["listener_statuses"]] == ["active"]


async def test_other_ports_have_fewer_endpoints() -> None:
    for endpoints, path in ((STATUS_ENDPOINTS, b"/healthz/ready"), (METRICS_ENDPOINTS, b"/metrics")):
        service = AdminService(Sidecar().view(), endpoints)
        assert (await service(make_request(path))).status == 200
        assert (await service(make_request(b"/config_dump"))).status == 404
        assert (await service(make_request(b"/quitquitquit", method=b"POST"))).status == 404


async def test_clusters_say_limits_health_and_place() -> None:
    host = at_port(
        7, weight=3, health=HealthStatus.UNHEALTHY, locality=Locality(region="r", zone="z", sub_zone="s")
    )
    cluster = static_cluster(
        host,
        name="up",
        circuit_breakers=CircuitBreakers(max_requests=9),
        outlier_detection=OutlierDetection(),
    )
    async with cluster_manager(cluster, static_cluster(name="dynamic")) as clusters:
        sidecar = Sidecar(clusters=clusters)
        lines = (await text_of(await sidecar.ask("/clusters"))).splitlines()
        filtered = await text_of(await sidecar.ask("/clusters?filter=^dyn"))
        shown = json.loads(await text_of(await sidecar.ask("/clusters?format=json")))
    assert {
        "up::default_priority::max_requests::9",
        "up::outlier::success_rate_average::-1",
        "up::added_via_api::false",
        "up::127.0.0.1:7::health_flags::/failed_eds_health",
        "up::127.0.0.1:7::weight::3",
        "up::127.0.0.1:7::zone::z",
        "dynamic::added_via_api::true",
    } <= set(lines)
    assert not any(line.startswith("dynamic::outlier") for line in lines)
    assert {line.partition("::")[0] for line in filtered.splitlines()} == {"dynamic"}
    (status,) = shown["cluster_statuses"][0]["host_statuses"]
    assert status["health_status"] == {"eds_health_status": "UNHEALTHY"}
    assert status["locality"] == {"region": "r", "zone": "z", "sub_zone": "s"}


async def test_clusters_are_asked_for_a_few_at_a_time() -> None:
    names = [f"c{number}" for number in range(90)]
    async with cluster_manager(*(static_cluster(at_port(7), name=name) for name in names)) as clusters:
        sidecar = Sidecar(clusters=clusters)
        shown = json.loads(await text_of(await sidecar.ask("/clusters?format=json")))
    assert [status["name"] for status in shown["cluster_statuses"]] == names
    assert sum(sidecar.worker.asked) == 90
    assert max(sidecar.worker.asked) <= 50


@pytest.mark.parametrize("path", ["/stats", "/stats?format=json", "/stats/prometheus", "/clusters"])
async def test_a_page_without_one_of_the_workers_is_an_error(path: str) -> None:
    """A scrape that left it out would make counters go backwards."""
    async with cluster_manager(static_cluster(at_port(7))) as clusters:
        sidecar = Sidecar(clusters=clusters)
        sidecar.worker.fails_after = 0
        response = await sidecar.ask(path)
    assert response.status == 503
    assert await text_of(response) == "worker 2 does not answer\n"


async def test_a_worker_that_stops_answering_cuts_the_page_short() -> None:
    names = [f"c{number}" for number in range(90)]
    async with cluster_manager(*(static_cluster(at_port(7), name=name) for name in names)) as clusters:
        sidecar = Sidecar(clusters=clusters)
        sidecar.worker.fails_after = 1
        response = await sidecar.ask("/clusters")
        assert response.status == 200
        with pytest.raises(InternalError, match="worker 2 does not answer"):
            await text_of(response)


async def test_an_eds_cluster_names_its_assignment() -> None:
    cluster = static_cluster(name="up", eds_service_name="service")
    async with cluster_manager(
        type(cluster)(name="up", discovery=Discovery.EDS, eds_service_name="service")
    ) as clusters:
        assert "up::eds_service_name::service\n" in await text_of(
            await Sidecar(clusters=clusters).ask("/clusters")
        )


async def test_stats_are_filtered_in_all_formats() -> None:
    stats = Stats()
    stats.http("in").downstream_rq_total = 3
    sidecar = Sidecar(stats=stats)
    query = "usedonly&filter=downstream_rq"
    assert await text_of(await sidecar.ask(f"/stats?{query}")) == "http.in.downstream_rq_total: 3\n"
    assert json.loads(await text_of(await sidecar.ask(f"/stats?format=json&{query}"))) == {
        "stats": [{"name": "http.in.downstream_rq_total", "value": 3}]
    }
    page = await sidecar.ask(f"/stats/prometheus?{query}")
    assert (b"content-type", b"text/plain; version=0.0.4; charset=utf-8") in page.headers
    assert await text_of(page) == await text_of(await sidecar.ask(f"/stats?format=prometheus&{query}"))
    assert (await sidecar.ask("/stats?filter=(")).status == 400
