"""`python -m sidecar` as its operator sees it: states, signals, ports, metrics and access logs."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin_client import ask
from tests.support.backends import backend
from tests.support.envoy_config import (
    bootstrap,
    changed,
    http_connection_manager,
    listener,
    rds,
    static_cluster,
    tcp_proxy,
)
from tests.support.processes import child, free_port
from tests.support.running_sidecar import Document, RunningSidecar, running

ISTIO_METADATA = {
    "filter_metadata": {"istio": {"services": [{"host": "db.prod", "name": "db", "namespace": "prod"}]}}
}


def listening(document: Document, port: int, filter_: Document, direction: str = "OUTBOUND") -> Document:
    entry = {**listener(f"l{port}", filter_, port), "traffic_direction": direction}
    index = len(document["static_resources"]["listeners"])
    return changed(document, f"static_resources.listeners[{index}]", entry)


def with_cluster(document: Document, name: str, port: int) -> Document:
    cluster = {**static_cluster(name, port), "metadata": ISTIO_METADATA}
    index = len(document["static_resources"]["clusters"])
    return changed(document, f"static_resources.clusters[{index}]", cluster)


def empty() -> Document:
    return changed(bootstrap(), "static_resources.listeners", [])


def web(document: Document, port: int, cluster: str, **manager: Any) -> Document:
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    routes = {"name": "web", "virtual_hosts": [host]}
    return listening(document, port, http_connection_manager(route_config=routes, **manager))


# States and signals.


def test_the_addresses_file_tells_ports_that_are_open(tmp_path: Path) -> None:
    with running(tmp_path, bootstrap()) as sidecar:
        assert sidecar.addresses.keys() == {"admin", "status", "metrics"}
        assert sidecar.addresses["admin"].startswith("127.0.0.1:")
        for name in sidecar.addresses:
            socket.create_connection(("127.0.0.1", sidecar.port(name)), timeout=5).close()
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_it_waits_for_the_control_plane_before_it_is_ready(tmp_path: Path) -> None:
    """The listener waits for its routes as the control plane, that is not there, has them."""
    source = {"ads": {}, "resource_api_version": "V3"}
    ads = {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    }
    document = listening(empty(), free_port(), http_connection_manager(rds=rds("r")))
    xds = {**static_cluster("xds", free_port()), "http2_protocol_options": {}}
    document = changed(document, "static_resources.clusters[2]", xds)
    document["dynamic_resources"] = {"cds_config": source, "lds_config": source, "ads_config": ads}
    with running(tmp_path, document) as sidecar:
        page = sidecar.ask("/ready")
        assert (page.status, page.body) == (503, "PRE_INITIALIZING\n")
        assert sidecar.ask("/healthz/ready", name="status").status == 503
        assert sidecar.ask("/server_info").json["state"] == "PRE_INITIALIZING"


def test_sigterm_drains_and_a_second_one_hurries_nothing(tmp_path: Path) -> None:
    with backend("v1") as app, ExitStack() as stack:
        port = free_port()
        document = web(with_cluster(empty(), "app", app.server_port), port, "app")
        sidecar = stack.enter_context(running(tmp_path, document, "--drain-time-s", "3"))
        sidecar.wait_for_state("LIVE")
        assert sidecar.ask("/healthz/ready", name="status").status == 200
        for _ in range(2):
            sidecar.process.process.send_signal(signal.SIGTERM)
            sidecar.wait_for_state("DRAINING")
        assert sidecar.ask("/healthz/ready", name="status").status == 503
        assert sidecar.ask("/server_info").json["state"] == "DRAINING"
        assert ask(port, "/").status == 200, "others learn late that it leaves"
        stats = sidecar.ask("/stats?usedonly&filter=drain_close").body
        assert stats == "http.http.downstream_cx_drain_close: 1\n"
        assert sidecar.process.process.wait(10) == 0
        assert sidecar.process.output.count("draining for at most 3 s") == 1


def test_sigint_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, bootstrap(), "--drain-time-s", "60") as sidecar:
        sidecar.end(signal.SIGINT)  # it waits for less than the drain time
        assert "Traceback" not in sidecar.process.output


def test_sighup_is_ignored_and_log_rotation_is_served(tmp_path: Path) -> None:
    with backend("v1") as app, ExitStack() as stack:
        port, path = free_port(), tmp_path / "access.log"
        log = {
            "name": "file",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": str(path),
                "log_format": {"text_format_source": {"inline_string": "%REQ(:PATH)%\n"}},
            },
        }
        document = web(with_cluster(empty(), "app", app.server_port), port, "app", access_log=[log])
        sidecar = stack.enter_context(running(tmp_path, document))
        sidecar.wait_for_state("LIVE")
        for number in (1, 2):
            path.rename(tmp_path / f"access.log.{number}")
            if number == 1:
                sidecar.process.process.send_signal(signal.SIGHUP)
                sidecar.process.process.send_signal(signal.SIGUSR1)
            else:
                assert sidecar.ask("/reopen_logs", "POST").body == "OK\n"
            sidecar.process.wait_for(path.exists, "the log is opened anew")
            assert ask(port, f"/{number}").status == 200
            sidecar.process.wait_for(
                lambda number=number: path.read_text() == f"/{number}\n", "the request is logged"
            )
        assert "SIGHUP is ignored" in sidecar.process.output


def test_a_graceful_drain_stops_accepting_after_the_drain_time(tmp_path: Path) -> None:
    port = free_port()
    document = web(with_cluster(empty(), "app", 1), port, "app")
    with running(tmp_path, document, "--drain-time-s", "1") as sidecar:
        sidecar.wait_for_state("LIVE")
        assert sidecar.ask("/drain_listeners?graceful", "POST").body == "OK\n"
        assert ask(port, "/").status == 503, "it is served as before: the application is not there"
        sidecar.process.wait_for(lambda: refuses(port), "the listener is closed")
        assert sidecar.ask("/ready").body == "LIVE\n"


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_web_pages_cannot_reach_the_admin_port_but_scrapers_reach_the_others(tmp_path: Path) -> None:
    with running(tmp_path, bootstrap()) as sidecar:
        sidecar.wait_for_state("LIVE")
        foreign = {"Host": "rebound.example"}
        assert sidecar.ask("/config_dump", **foreign).status == 403
        assert sidecar.ask("/quitquitquit", "POST", Origin="https://evil.example").status == 403
        assert sidecar.ask("/metrics", name="metrics", **foreign).status == 200
        assert sidecar.ask("/healthz/ready", name="status", **foreign).status == 200
        assert sidecar.process.process.poll() is None


LONG_PAGES = ("/stats", "/stats?format=json", "/stats/prometheus", "/clusters", "/clusters?format=json")


def test_others_are_answered_while_a_client_reads_a_page_of_thousands_of_clusters(tmp_path: Path) -> None:
    document = changed(
        bootstrap(), "static_resources.clusters", [static_cluster(name, 1) for name in ("a", "b")]
    )
    clusters = [static_cluster(f"outbound|80||svc{number}.default", 1) for number in range(2000)]
    document["static_resources"]["clusters"] += clusters
    with running(tmp_path, document) as sidecar:
        sidecar.wait_for_state("LIVE")
        for path in LONG_PAGES:
            with long_page(sidecar.port("admin"), path) as page:
                assert page.recv(1) == b"H"
                for _ in range(5):
                    assert sidecar.ask("/healthz/ready", name="status").status == 200
        assert sidecar.ask("/clusters").body.count("::observability_name::") == 2002
        assert len(sidecar.ask("/clusters?format=json").json["cluster_statuses"]) == 2002


@contextmanager
def long_page(port: int, path: str) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        yield connection


# Metrics.


@contextmanager
def echo() -> Iterator[int]:
    """A TCP server for one connection that sends back the bytes that it receives."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                while data := connection.recv(1000):
                    connection.sendall(data)

        thread = threading.Thread(target=serve, name="echo")
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_tcp_metrics_move_while_the_connection_is_open(tmp_path: Path) -> None:
    with echo() as db, ExitStack() as stack:
        port = free_port()
        document = listening(with_cluster(empty(), "db", db), port, tcp_proxy("db"))
        sidecar = stack.enter_context(running(tmp_path, document))
        sidecar.wait_for_state("LIVE")
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        (labels, opened), *_ = sidecar.samples("istio_tcp_connections_opened_total")
        assert opened == 1
        assert (labels["reporter"], labels["request_protocol"]) == ("source", "tcp")
        assert labels["destination_service"] == "db.prod"
        sidecar.process.wait_for(
            lambda: value(sidecar, "istio_tcp_sent_bytes_total") == 5, "its bytes are counted"
        )
        assert value(sidecar, "istio_tcp_received_bytes_total") == 5
        assert value(sidecar, "istio_tcp_connections_closed_total") == 0
        connection.close()
        sidecar.process.wait_for(
            lambda: value(sidecar, "istio_tcp_connections_closed_total") == 1, "it is closed"
        )
        assert value(sidecar, "istio_tcp_sent_bytes_total") == 5


def value(sidecar: RunningSidecar, name: str) -> float:
    ((_, found),) = sidecar.samples(name)
    return found


@pytest.mark.parametrize("direction", ["OUTBOUND", "INBOUND"])
def test_a_host_that_refuses_is_reported_with_its_flag_and_its_service(
    tmp_path: Path, direction: str
) -> None:
    port, tcp_port, nobody = free_port(), free_port(), free_port()
    document = web(with_cluster(empty(), "db", nobody), port, "db")
    document = listening(document, tcp_port, tcp_proxy("db"), direction)
    document["static_resources"]["listeners"][0]["traffic_direction"] = direction
    with running(tmp_path, document) as sidecar:
        sidecar.wait_for_state("LIVE")
        assert ask(port, "/").status == 503
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as connection:
            assert connection.recv(1) == b""
        sidecar.process.wait_for(
            lambda: bool(sidecar.samples("istio_tcp_connections_closed_total")), "the connection is counted"
        )
        for name in ("istio_requests_total", "istio_tcp_connections_closed_total"):
            ((labels, count),) = sidecar.samples(name)
            assert count == 1
            assert labels["reporter"] == ("source" if direction == "OUTBOUND" else "destination")
            assert labels["response_flags"].split(",")[0] == "UF"
            assert labels["destination_service"] == "db.prod"
            assert labels["destination_service_name"] == "db"
            assert labels["destination_service_namespace"] == "prod"


def test_a_service_without_hosts_is_reported_by_its_name(tmp_path: Path) -> None:
    port, tcp_port = free_port(), free_port()
    document = web(with_cluster(empty(), "db", 1), port, "db")
    document = listening(document, tcp_port, tcp_proxy("db"))
    document["static_resources"]["clusters"][-1]["load_assignment"]["endpoints"] = []
    with running(tmp_path, document) as sidecar:
        sidecar.wait_for_state("LIVE")
        assert ask(port, "/").status == 503
        with socket.create_connection(("127.0.0.1", tcp_port), timeout=5) as connection:
            assert connection.recv(1) == b""
        for name in ("istio_requests_total", "istio_tcp_connections_closed_total"):
            ((labels, count),) = sidecar.samples(name)
            assert count == 1
            assert (labels["response_flags"], labels["destination_service"]) == ("UH", "db.prod")


# Access logs.

DEFAULT_LINE = re.compile(
    r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "(GET /a\?b=c HTTP/1\.1|- - -)" '
    r'(\d+) (\S+) (\d+) (\d+) (\d+) (\d+|-) "(\S+)" "(\S+)" "(\S+)" "(\S+)" "(\S+)"'
)


def test_text_logs_have_envoys_default_format_one_line_each(tmp_path: Path) -> None:
    with backend("v1") as app, ExitStack() as stack:
        port, tcp_port = free_port(), free_port()
        document = web(with_cluster(empty(), "app", app.server_port), port, "app")
        document = listening(document, tcp_port, tcp_proxy("app"))
        sidecar = stack.enter_context(running(tmp_path, document, "--access-log", "text"))
        sidecar.wait_for_state("LIVE")
        for _ in range(3):
            assert ask(port, "/a?b=c").status == 200
        answered = ask(tcp_port, "/raw").status
        assert answered == 200
        sidecar.end()
        http, tcp = [], []
        for line in sidecar.log_lines():
            found = DEFAULT_LINE.fullmatch(line)
            assert found is not None, line
            (tcp if found[1] == "- - -" else http).append(found)
        assert len(http) == 3, "all of them, though it ended before the next flush"
        assert len(tcp) == 1
        assert {line[12] for line in (*http, *tcp)} == {f"127.0.0.1:{app.server_port}"}
        assert {line[2] for line in http} == {"200"}
        assert tcp[0][2] == "0"
        assert int(tcp[0][5]) > 100


def test_json_logs_are_an_object_each(tmp_path: Path) -> None:
    with backend("v1") as app, ExitStack() as stack:
        port, tcp_port = free_port(), free_port()
        document = web(with_cluster(empty(), "app", app.server_port), port, "app")
        document = listening(document, tcp_port, tcp_proxy("app"))
        sidecar = stack.enter_context(running(tmp_path, document, "--access-log", "json"))
        sidecar.wait_for_state("LIVE")
        assert ask(port, "/a?b=c", "POST", {"User-Agent": 'a"b'}).status == 200
        assert ask(tcp_port, "/raw").status == 200
        sidecar.end()
        http, tcp = sorted(map(json.loads, sidecar.log_lines()), key=lambda entry: entry["method"] is None)
        assert (http["method"], http["path"], http["response_code"]) == ("POST", "/a?b=c", 200)
        assert http["upstream_cluster"] == tcp["upstream_cluster"] == "app"
        assert http["response_flags"] == "-"
        assert http["user_agent"] == 'a"b'
        assert (tcp["path"], tcp["response_code"]) == (None, 0)
        assert tcp["bytes_sent"] > 100


FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"


def access_log(path: Path, log_format: Document) -> Document:
    config = {"@type": FILE_LOG, "path": str(path), "log_format": log_format}
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def test_the_configurations_own_logs_have_its_formats(tmp_path: Path) -> None:
    text, structured = tmp_path / "text.log", tmp_path / "json.log"
    logs = [
        access_log(text, {"text_format_source": {"inline_string": "%REQ(:METHOD)% %RESPONSE_CODE% 100%%\n"}}),
        access_log(structured, {"json_format": {"status": "%RESPONSE_CODE%", "to": "%REQ(:AUTHORITY)% now"}}),
    ]
    port = free_port()
    with running(
        tmp_path, web(with_cluster(empty(), "db", free_port()), port, "db", access_log=logs)
    ) as sidecar:
        sidecar.wait_for_state("LIVE")
        assert ask(port, "/", headers={"Host": "here"}).status == 503
        sidecar.end()
        assert text.read_text() == "GET 503 100%\n"
        assert json.loads(structured.read_text()) == {"status": 503, "to": "here now"}
        assert sidecar.log_lines() == []


@pytest.mark.parametrize(
    ("path", "log_format", "words"),
    [
        ("missing/log", {"text_format_source": {"inline_string": "x"}}, "No such file or directory"),
        ("log", {"text_format_source": {"inline_string": "%NONSENSE%"}}, "%NONSENSE%"),
        ("log", {"json_format": {"a": "%REQ(X"}}, "%REQ(X"),
    ],
)
def test_a_log_that_cannot_be_written_is_one_line_and_exit_code_1(
    tmp_path: Path, path: str, log_format: Document, words: str
) -> None:
    logs = [access_log(tmp_path / path, log_format)]
    document = web(with_cluster(empty(), "db", 1), free_port(), "db", access_log=logs)
    with running(tmp_path, document) as sidecar:
        assert sidecar.process.process.wait(10) == 1
        last = sidecar.process.output.splitlines()[-1]
        assert last.startswith("sidecar: ")
        assert "access_log" in last
        assert words in last
        assert "Traceback" not in sidecar.process.output


def test_an_addresses_file_that_cannot_be_written_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(bootstrap()))
    command = [sys.executable, "-m", "sidecar", "-c", file, "--addresses-file", tmp_path / "no" / "file"]
    with child([*command, "--status-port", "0", "--metrics-port", "off"], tmp_path / "log") as process:
        assert process.process.wait(60) == 1
        last = process.output.splitlines()[-1]
        assert last.endswith("no/file: cannot be written: No such file or directory")
