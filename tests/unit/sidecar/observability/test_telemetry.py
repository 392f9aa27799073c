from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.config.cluster import ServiceMetadata
from sidecar.config.endpoint import SocketAddress, WorkloadMetadata
from sidecar.config.listener import AccessLog, TrafficDirection
from sidecar.errors import ConfigError
from sidecar.observability.request_metrics import ConnectionSeries, LocalWorkload
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo
from sidecar.observability.telemetry import Telemetry

HERE = SocketAddress("127.0.0.1", 1)


class Request:
    method, path, authority, scheme = b"GET", b"/a", b"reviews", b"http"

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.info = info()


def info() -> StreamInfo:
    stream = StreamInfo(DownstreamConnection(id=1, remote_address=HERE, local_address=HERE), 10.0, 0.0)
    stream.cluster = "outbound|27017||mongo"
    stream.service = ServiceMetadata(host="mongo.db", name="mongo", namespace="db")
    stream.host_workload = WorkloadMetadata(name="mongo-1", namespace="db")
    return stream


def telemetry(access_log: str = "off") -> Telemetry:
    return Telemetry(LocalWorkload(), access_log=access_log)


def counted(series: ConnectionSeries) -> tuple[int, int, int, int]:
    return series.opened, series.closed, series.received_bytes, series.sent_bytes


async def test_a_connections_bytes_are_counted_while_it_is_open_and_once() -> None:
    reporter = telemetry()
    observer = reporter.for_connections(TrafficDirection.OUTBOUND, ())
    stream = info()
    observer.progressed(stream)  # the host is not reached yet
    observer.opened(stream)
    (series,) = reporter.source.connections()
    assert counted(series) == (1, 0, 0, 0)
    stream.bytes_received, stream.bytes_sent = 10, 5
    observer.progressed(stream)
    assert counted(series) == (1, 0, 10, 5)
    stream.bytes_sent = 7
    observer.progressed(stream)
    observer.closed(stream)
    assert counted(series) == (1, 1, 10, 7)


async def test_a_connection_that_never_reached_its_host_is_opened_and_closed_with_its_flag() -> None:
    reporter = telemetry()
    stream = info()
    stream.add_flag("UF")
    reporter.for_connections(TrafficDirection.OUTBOUND, ()).closed(stream)
    (series,) = reporter.source.connections()
    assert counted(series) == (1, 1, 0, 0)
    assert series.labels["response_flags"] == "UF"
    assert series.labels["destination_service"] == "mongo.db"
    assert series.labels["destination_workload"] == "mongo-1"


async def test_the_direction_of_a_listener_says_who_reports() -> None:
    reporter = telemetry()
    for direction in TrafficDirection:
        for observe in reporter.for_requests(direction, ()):
            observe(Request(), None)
    assert len(list(reporter.source.requests())) == 1
    assert len(list(reporter.destination.requests())) == 1
    assert reporter.for_requests(TrafficDirection.UNSPECIFIED, ()) == ()


async def test_logs_of_several_listeners_share_a_file_and_are_written_at_the_end(tmp_path: Path) -> None:
    reporter = telemetry()
    file = tmp_path / "log"
    logs = (AccessLog(path=str(file), format={"path": "%REQ(:PATH)%", "host": "%UPSTREAM_HOST%"}),)
    for direction in (TrafficDirection.INBOUND, TrafficDirection.UNSPECIFIED):
        *_, log = reporter.for_requests(direction, logs)
        log(Request(), None)
    reporter.for_connections(TrafficDirection.UNSPECIFIED, logs).closed(info())
    await reporter.close()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [{"path": "/a", "host": None}] * 2 + [{"path": None, "host": None}]


async def test_a_listeners_own_logs_are_of_its_connections(tmp_path: Path) -> None:
    reporter = telemetry(access_log="text")
    assert reporter.for_listener(()) == (), "what the command line asks for has the requests"
    logs = tuple(AccessLog(path=str(tmp_path / name), format="%BYTES_SENT%\n") for name in "ab")
    stream = info()
    stream.bytes_sent = 7
    for on_disconnect in reporter.for_listener(logs):
        on_disconnect(stream)
    await reporter.close()
    assert [(tmp_path / name).read_text() for name in "ab"] == ["7\n", "7\n"]


@pytest.mark.parametrize(("name", "words"), [("no/log", "no/log: No such file"), ("a\0b", "NUL character")])
async def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path, name: str, words: str) -> None:
    logs = (AccessLog(path=str(tmp_path / name)),)
    with pytest.raises(ConfigError, match=f"access_log.path: .*{words}"):
        telemetry().for_requests(TrafficDirection.INBOUND, logs)


async def test_all_log_files_are_reopened(tmp_path: Path) -> None:
    reporter = telemetry()
    names = ("first", "second")
    logs = tuple(AccessLog(path=str(tmp_path / name), format="%REQ(:PATH)%\n") for name in names)
    observers = reporter.for_requests(TrafficDirection.UNSPECIFIED, logs)
    for name in names:
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    reporter.reopen_logs()
    for log in observers:
        log(Request(), None)
    await reporter.close()
    assert [(tmp_path / name).read_text() for name in names] == ["/a\n", "/a\n"]


async def test_the_workload_has_the_name_that_the_control_plane_gives_it() -> None:
    """The pod's own until then."""
    reporter = Telemetry(LocalWorkload(name="web-7ddc54f689-x7z2k", app="web"), access_log="off")
    reporter.name_workload(WorkloadMetadata.parse("web;default;;;"))
    (observe,) = reporter.for_requests(TrafficDirection.OUTBOUND, ())
    observe(Request(), None)
    (series,) = reporter.source.requests()
    assert (series.labels["source_workload"], series.labels["source_app"]) == ("web", "web")
    reporter.name_workload(WorkloadMetadata.parse(";default"))
    assert reporter.destination.local.name == "web"
