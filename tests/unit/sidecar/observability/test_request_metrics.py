from __future__ import annotations

import pytest

from sidecar.config.cluster import ServiceMetadata
from sidecar.config.endpoint import SocketAddress, WorkloadMetadata
from sidecar.observability.exposition import prometheus_pieces
from sidecar.observability.grpc_call import GrpcCall
from sidecar.observability.report import StatsReport
from sidecar.observability.request_metrics import LocalWorkload, RequestMetrics
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo

HERE = SocketAddress("127.0.0.1", 1)
PRODUCTPAGE = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
LOCAL = LocalWorkload(name="reviews-1", namespace="bookinfo", app="reviews", version="v1")


def page_of(metrics: RequestMetrics) -> str:
    report = StatsReport(requests=tuple(metrics.requests()), connections=tuple(metrics.connections()))
    return "".join(prometheus_pieces(report, [], lambda name, value: True))


def info(*, peer_id: str = "", status: int = 200, flags: str = "") -> StreamInfo:
    connection = DownstreamConnection(id=1, remote_address=HERE, local_address=HERE, peer_id=peer_id)
    stream = StreamInfo(connection, start_s=10.0, wall_start_s=0.0)
    stream.end_s = 10.004
    stream.status = status
    for flag in flags.split(",") if flags else ():
        stream.add_flag(flag)
    stream.cluster = "inbound|9080||"
    stream.service = ServiceMetadata(host="reviews.bookinfo", name="reviews", namespace="bookinfo")
    return stream


def test_the_destination_knows_who_called_and_that_it_was_mutual_tls() -> None:
    metrics = RequestMetrics("destination", LOCAL)
    metrics.record(info(peer_id=PRODUCTPAGE))
    metrics.record(info(peer_id=PRODUCTPAGE))
    (series,) = metrics.requests()
    assert series.duration_ms.count == 2
    assert series.labels["source_principal"] == PRODUCTPAGE
    assert series.labels["source_workload_namespace"] == "bookinfo"
    assert series.labels["connection_security_policy"] == "mutual_tls"
    assert series.labels["destination_workload"] == "reviews-1"
    assert series.labels["destination_service"] == "reviews.bookinfo"


def test_a_plaintext_client_is_unknown() -> None:
    metrics = RequestMetrics("destination", LOCAL)
    metrics.record(info())
    (series,) = metrics.requests()
    assert series.labels["source_principal"] == "unknown"
    assert series.labels["connection_security_policy"] == "none"


def test_the_source_names_the_destinations_workload() -> None:
    metrics = RequestMetrics("source", LOCAL)
    stream = info(status=503, flags="UF,URX")
    stream.host_workload = WorkloadMetadata(name="ratings-1", namespace="bookinfo", canonical_name="ratings")
    stream.upstream_peer_id = "spiffe://cluster.local/ns/bookinfo/sa/ratings"
    metrics.record(stream)
    (series,) = metrics.requests()
    assert series.labels["destination_workload"] == "ratings-1"
    assert series.labels["destination_principal"] == stream.upstream_peer_id
    assert (series.labels["response_code"], series.labels["response_flags"]) == ("503", "UF,URX")


def test_each_code_is_a_series_of_one_family() -> None:
    metrics = RequestMetrics("destination", LOCAL)
    for status in (200, 200, 404):
        metrics.record(info(status=status))
    page = page_of(metrics)
    totals = [line for line in page.splitlines() if line.startswith("istio_requests_total{")]
    assert [line.rsplit(" ", 1)[1] for line in totals] == ["2", "1"]
    assert page.count("# TYPE istio_requests_total counter") == 1


def test_a_connection_counts_its_bytes_where_it_was_opened() -> None:
    metrics = RequestMetrics("source", LOCAL)
    series = metrics.connection(info())
    series.opened += 1
    series.sent_bytes += 5
    assert metrics.connection(info()) is series
    page = page_of(metrics)
    assert 'request_protocol="tcp"' in page
    assert any(
        line.startswith("istio_tcp_sent_bytes_total{") and line.endswith(" 5") for line in page.splitlines()
    )


# https://istio.io/latest/docs/reference/config/metrics/#labels
ISTIO_TCP_LABELS = {
    "reporter",
    *(
        f"{side}_{label}"
        for side in ("source", "destination")
        for label in (
            "workload",
            "workload_namespace",
            "principal",
            "app",
            "version",
            "canonical_service",
            "canonical_revision",
            "cluster",
        )
    ),
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
}
ISTIO_REQUEST_LABELS = ISTIO_TCP_LABELS | {"response_code", "grpc_response_status"}


@pytest.mark.parametrize("reporter", ["source", "destination"])
def test_the_labels_are_exactly_istios(reporter: str) -> None:
    metrics = RequestMetrics(reporter, LOCAL)
    metrics.record(info())
    metrics.connection(info())
    (request,), (connection,) = metrics.requests(), metrics.connections()
    assert request.labels.keys() == ISTIO_REQUEST_LABELS
    assert connection.labels.keys() == ISTIO_TCP_LABELS
    assert all(value for name, value in request.labels.items() if name != "grpc_response_status")


@pytest.mark.parametrize(
    ("cluster", "route", "service_name"),
    [
        ("PassthroughCluster", "allow_any", "PassthroughCluster"),
        ("BlackHoleCluster", "", "BlackHoleCluster"),
        ("", "block_all", "BlackHoleCluster"),
        ("", "", "unknown"),
        ("my-cluster", "", "unknown"),
    ],
)
def test_unknown_workloads_have_istios_labels(cluster: str, route: str, service_name: str) -> None:
    metrics = RequestMetrics("source", LOCAL)
    stream = info()
    stream.cluster, stream.route_name, stream.service = cluster, route, None
    metrics.record(stream)
    (series,) = metrics.requests()
    assert series.labels["destination_service_name"] == service_name
    assert series.labels["destination_service"] == "unknown"


def test_principals_are_those_that_mutual_tls_has_proved() -> None:
    local = LocalWorkload(principal="spiffe://cluster.local/ns/bookinfo/sa/reviews")
    for reporter, side in (("source", "source"), ("destination", "destination")):
        metrics = RequestMetrics(reporter, local)
        plain, mutual = info(), info(peer_id=PRODUCTPAGE)
        mutual.upstream_peer_id = PRODUCTPAGE
        metrics.record(plain)
        metrics.record(mutual)
        principals = [series.labels[f"{side}_principal"] for series in metrics.requests()]
        assert principals == ["unknown", local.principal]


def test_workloads_with_the_same_name_have_different_series() -> None:
    """A Deployment that is given a new version keeps its name."""
    metrics = RequestMetrics("source", LOCAL)
    for version in ("v1", "v2", "v2"):
        stream = info()
        stream.host_workload = WorkloadMetadata(name="ratings", namespace="a", canonical_revision=version)
        metrics.record(stream)
    found = {series.labels["destination_version"]: series.duration_ms.count for series in metrics.requests()}
    assert found == {"v1": 1, "v2": 2}


def test_series_of_removed_hosts_expire_and_those_of_open_connections_do_not() -> None:
    metrics = RequestMetrics("source", LOCAL)
    metrics.record(info())
    connection = metrics.connection(info())
    connection.opened += 1
    for _ in range(10):
        metrics.sweep([])
    assert (len(list(metrics.requests())), len(list(metrics.connections()))) == (0, 1)
    connection.closed += 1
    for _ in range(10):
        metrics.sweep([])
    assert not list(metrics.connections())


def test_a_hundred_replaced_pods_leave_a_page_no_larger_than_one() -> None:
    metrics = RequestMetrics("source", LOCAL)
    sizes = []
    for pod in range(100):
        stream = info()
        stream.host_workload = WorkloadMetadata(name=f"ratings-{pod:03}", namespace="bookinfo")
        metrics.record(stream)
        for _ in range(10):
            metrics.sweep([(stream.cluster, stream.host_workload.key)])
        sizes.append(len(page_of(metrics)))
    assert set(sizes) == {sizes[0]}


def grpc_call(status: int) -> StreamInfo:
    stream = info()
    stream.grpc = GrpcCall()
    stream.grpc.end(200, [], [(b"grpc-status", b"%d" % status)])
    stream.grpc.request_messages.feed(b"\0\0\0\0\0" * 3)
    stream.grpc.response_messages.feed(b"\0\0\0\0\0" * 2)
    return stream


def test_a_grpc_call_has_its_status_and_its_messages() -> None:
    metrics = RequestMetrics("destination", LOCAL)
    for stream in (grpc_call(0), grpc_call(0), grpc_call(14), info()):
        metrics.record(stream)
    labels = [series.labels for series in metrics.requests()]
    assert [(each["request_protocol"], each["grpc_response_status"]) for each in labels] == [
        ("grpc", "0"),
        ("grpc", "14"),
        ("http", ""),
    ]
    page = page_of(metrics)
    for direction, counts in (("request", ["6", "3"]), ("response", ["4", "2"])):
        name = f"istio_{direction}_messages_total{{"
        lines = [line for line in page.splitlines() if line.startswith(name)]
        assert [line.rsplit(" ", 1)[1] for line in lines] == counts


def test_the_destination_names_the_workload_that_its_client_has_named() -> None:
    metrics = RequestMetrics("destination", LOCAL)
    for name in ("productpage-v1", "productpage-v2", "productpage-v1"):
        stream = info(peer_id=PRODUCTPAGE)
        stream.peer_workload = WorkloadMetadata(name=name, namespace="bookinfo", canonical_name="productpage")
        metrics.record(stream)
    found = {series.labels["source_workload"]: series for series in metrics.requests()}
    assert {name: series.duration_ms.count for name, series in found.items()} == {
        "productpage-v1": 2,
        "productpage-v2": 1,
    }
    assert found["productpage-v1"].labels["source_canonical_service"] == "productpage"
