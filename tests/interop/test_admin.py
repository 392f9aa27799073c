"""The admin interface compared with the real Envoy's: the same bootstrap file, the same few requests, then
each page of both. What is compared are names, shapes and types, and those values that the requests decide."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template
from typing import Any

import pytest
import trustme
from envoy.admin.v3 import (
    certs_pb2,
    clusters_pb2,
    config_dump_pb2,
    config_dump_shared_pb2,
    listeners_pb2,
    server_info_pb2,
)
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.admin_client import Page, ask
from tests.support.envoy import envoy_command
from tests.support.processes import Child, accepts, child, free_port
from tests.support.recording_upstream import recording_upstream

BOOTSTRAP = Template(Path(__file__).with_name("admin_bootstrap.yaml").read_text())
LISTENERS = ("web", "raw", "secure")
# Imported so that the messages in a dump can be parsed.
DUMPED = (config_dump_shared_pb2, router_pb2, http_connection_manager_pb2, tcp_proxy_pb2, tls_pb2)


@dataclass(frozen=True, slots=True)
class Proxy:
    process: Child
    ports: dict[str, int]

    def ask(self, path: str, method: str = "GET") -> Page:
        """With the proxy's own ports written as ``PORT``: they are where the two must differ."""
        page = ask(self.ports["admin"], path, method)
        own = "|".join(str(port) for port in self.ports.values())
        return Page(page.status, page.content_type, re.sub(rf"(?<!\d)({own})(?!\d)", "11111", page.body))


@dataclass(frozen=True, slots=True)
class Pair:
    envoy: Proxy
    sidecar: Proxy

    def ask(self, path: str, method: str = "GET") -> tuple[Page, Page]:
        return self.envoy.ask(path, method), self.sidecar.ask(path, method)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both have answered the same requests, and hold one TCP connection open."""
    folder = tmp_path_factory.mktemp("admin")
    with ExitStack() as stack:
        upstream = stack.enter_context(recording_upstream("upstream"))
        shared = {**upstream.ports, "refusing": _refusing_port(stack), **_certificates()}
        yield Pair(*(_proxy(name, folder, shared, stack) for name in ("envoy", "sidecar")))


def _proxy(name: str, folder: Path, shared: dict[str, Any], stack: ExitStack) -> Proxy:
    ports = {port: free_port() for port in (*LISTENERS, "admin")}
    file = folder / f"{name}.yaml"
    file.write_text(BOOTSTRAP.substitute(shared, **ports))
    process = stack.enter_context(child(_command(name, file), folder / f"{name}.log"))
    process.wait_for_port(ports["admin"])
    process.wait_for(lambda: ask(ports["admin"], "/ready").status == 200, f"{name} is ready")
    for path, answer in (
        *(("/", "ok"),) * 3,
        ("/", "404"),
        ("/", "503"),
        ("/direct", ""),
        ("/moved", ""),
        ("/refused", ""),
        ("/missing", ""),
        ("/late", "silence"),
        ("/", "reset"),
        ("/nothing", "ok"),
    ):
        ask(ports["web"], path, "POST" if answer == "reset" else "GET", {"answer": answer})
    raw = stack.enter_context(socket.create_connection(("127.0.0.1", ports["raw"])))
    raw.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert raw.recv(1000).startswith(b"HTTP/1.1 200")
    # Both merge what their workers, or open connections, have counted every five seconds.
    bytes_of_raw = r"?filter=^tcp\.raw\.downstream_cx_tx_bytes_total$"
    process.wait_for(
        lambda: not ask(ports["admin"], f"/stats{bytes_of_raw}").body.endswith(": 0\n"), f"{name} has counted"
    )
    return Proxy(process, ports)


def _command(name: str, bootstrap: Path) -> list[str]:
    if name == "envoy":
        return envoy_command(bootstrap)
    options = ["--status-port", "off", "--metrics-port", "off", "--drain-time-s", "0"]
    return [sys.executable, "-m", "sidecar", "-c", str(bootstrap), *options]


def _refusing_port(stack: ExitStack) -> int:
    refusing = stack.enter_context(socket.socket())
    refusing.bind(("127.0.0.1", 0))  # and never listens
    return int(refusing.getsockname()[1])


def _certificates() -> dict[str, str]:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", "localhost")
    pem = {
        "chain": b"".join(blob.bytes() for blob in own.cert_chain_pems),
        "key": own.private_key_pem.bytes(),
        "roots": authority.cert_pem.bytes(),
    }
    return {name: json_string(value.decode()) for name, value in pem.items()}


def json_string(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"'


def parsed(page: Page, message: Message) -> Any:
    """The answer as the message that the API says it is: a field of another name or type does not parse."""
    assert page.status == 200
    assert page.content_type == "application/json"
    return json_format.Parse(page.body, message)


# What the proxy is.


def test_ready_says_the_state(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/ready")
    assert envoy == sidecar
    assert sidecar.body == "LIVE\n"


def test_server_info_is_the_message_of_the_api(pair: Pair) -> None:
    pages = pair.ask("/server_info")
    infos = [
        json_format.Parse(page.body, server_info_pb2.ServerInfo(), ignore_unknown_fields=True)
        for page in pages
    ]
    for info in infos:
        info.ClearField("version")
        info.ClearField("uptime_current_epoch")
        info.ClearField("uptime_all_epochs")
        info.node.ClearField("user_agent_name")
        info.node.ClearField("user_agent_version")
        info.node.ClearField("user_agent_build_version")
        info.node.ClearField("extensions")
    envoy, sidecar = infos
    assert (sidecar.state, sidecar.node) == (envoy.state, envoy.node)
    for option in ("concurrency", "config_yaml", "service_node", "service_cluster"):
        assert getattr(sidecar.command_line_options, option) == getattr(envoy.command_line_options, option)
    assert sidecar.command_line_options.config_path.endswith("sidecar.yaml")


def test_certs_are_shown_as_envoy_shows_them(pair: Pair) -> None:
    envoy, sidecar = (parsed(page, certs_pb2.Certificates()) for page in pair.ask("/certs"))
    assert envoy == sidecar
    assert len(sidecar.certificates) == 1


# What it knows of listeners and clusters.


def test_listeners_are_the_same_in_both_forms(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/listeners")
    assert envoy == sidecar
    envoy, sidecar = (parsed(p, listeners_pb2.Listeners()) for p in pair.ask("/listeners?format=json"))
    assert envoy == sidecar


# Nothing here takes a route of high priority; and connections of Envoy's may come and go between requests.
LEFT_OUT = re.compile(r"::(high_priority::|[^:]+(:\d+|\]:\d+)::(rq_pending_active|cx_|rq_active|rq_total))")


def test_clusters_are_the_same_lines(pair: Pair) -> None:
    envoy, sidecar = (
        sorted(
            line
            for line in page.body.splitlines()
            if not LEFT_OUT.search(line) and not line.startswith("named::")
        )
        for page in pair.ask("/clusters")
    )
    assert sidecar == envoy
    assert any("::rq_error::1" in line for line in sidecar)


def test_clusters_in_json_are_the_message_of_the_api(pair: Pair) -> None:
    envoy, sidecar = (
        {status.name: status for status in parsed(page, clusters_pb2.Clusters()).cluster_statuses}
        for page in pair.ask("/clusters?format=json&filter=^(upstream|refusing)$")
    )
    assert sidecar.keys() == envoy.keys() == {"upstream", "refusing"}
    for name, theirs in envoy.items():
        ours = sidecar[name]
        assert host_stats(ours).items() <= host_stats(theirs).items()
        del theirs.circuit_breakers.thresholds[1:]  # of the high priority
        for status in (ours, theirs):
            for host in status.host_statuses:
                host.ClearField("stats")
        assert ours == theirs


def host_stats(status: Any) -> dict[str, tuple[int, int]]:
    """By name: the type, and the value of those that TCP connections and idle ones have no part in."""
    decided = ("rq_success", "rq_error", "rq_timeout", "cx_connect_fail")
    (host,) = status.host_statuses
    return {stat.name: (stat.type, stat.value if stat.name in decided else 0) for stat in host.stats}


def test_clusters_can_be_filtered(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/clusters?filter=fus")
    assert {line.partition("::")[0] for line in envoy.body.splitlines()} == {"refusing"}
    assert {line.partition("::")[0] for line in sidecar.body.splitlines()} == {"refusing"}


# What is in force.


def dump(page: Page) -> Any:
    return parsed(page, config_dump_pb2.ConfigDump())


def test_the_config_dump_has_envoys_sections(pair: Pair) -> None:
    for path in ("/config_dump", "/config_dump?include_eds"):
        envoy, sidecar = (
            [section.TypeName().removeprefix("envoy.admin.v3.") for section in dump(page).configs]
            for page in pair.ask(path)
        )
        envoy.remove("ScopedRoutesConfigDump")
        assert sidecar == envoy


@pytest.mark.parametrize(
    "query",
    [
        "static_clusters",
        "static_listeners",
        "static_route_configs",
        "dynamic_listeners",
        "dynamic_active_clusters",
        "dynamic_route_configs",
        "static_clusters&name_regex=ref.*",
        "static_clusters&name_regex=ref",
        "static_listeners&name_regex=web|raw",
        "static_route_configs&name_regex=web",
        "static_secrets&name_regex=roots",
    ],
)
def test_a_resource_of_the_dump_has_the_same_items(pair: Pair, query: str) -> None:
    envoy, sidecar = (
        sorted(str(without_time(item)) for item in dump(page).configs)
        for page in pair.ask(f"/config_dump?resource={query}")
    )
    assert sidecar == envoy


def without_time(item: Any) -> Message:
    """Ignores the time at which the file was read, and the order of clusters."""
    descriptor = config_dump_shared_pb2.DESCRIPTOR.pool.FindMessageTypeByName(item.TypeName())
    entry = message_factory.GetMessageClass(descriptor)()
    assert item.Unpack(entry)
    entry.ClearField("last_updated")
    return entry


def test_static_endpoints_are_shown_when_asked_for(pair: Pair) -> None:
    names = [
        sorted(entry["endpoint_config"]["cluster_name"] for entry in page.json["configs"])
        for page in pair.ask("/config_dump?include_eds&resource=static_endpoint_configs")
    ]
    assert names[0] == names[1] == ["named", "refusing", "upstream"]


def test_no_private_key_is_in_the_dump(pair: Pair) -> None:
    options = pair.sidecar.ask("/server_info").json["command_line_options"]
    assert "PRIVATE KEY" in Path(options["config_path"]).read_text()
    assert "PRIVATE KEY" not in pair.sidecar.ask("/config_dump?include_eds").body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/config_dump?resource=nonsense", 404),
        ("/config_dump?name_regex=(", 400),
        ("/stats?filter=(", 400),
        ("/clusters?filter=(", 400),
        ("/stats?format=nonsense", 400),
    ],
)
def test_a_wrong_parameter_is_refused(pair: Pair, path: str, status: int) -> None:
    envoy, sidecar = pair.ask(path)
    assert (envoy.status, sidecar.status) == (status, status)
    assert sidecar.body.count("\n") == 1


# Statistics.

# Ours alone. Envoy counts routes and endpoints of xDS for each connection manager and cluster, which is ours
# in sum; it has these of TLS only where a cluster or a control plane is spoken to by TLS.
OURS = re.compile(
    r"^(xds\.(rds|eds)\.|cluster_manager\.cds\.|listener_manager\.lds\.|control_plane\.connected_state"
    r"|cluster\.[^.]+\.(ssl|outlier_detection)\.|tcp\.[^.]+\.downstream_cx_active"
    r"|server\.seconds_until_first_cert_expiring)"
)


def test_every_stat_is_one_of_envoys(pair: Pair) -> None:
    envoy, sidecar = ({line.partition(": ")[0] for line in lines(page)} for page in pair.ask("/stats"))
    # These of Envoy's begin with the first answer.
    late = re.compile(r"cluster\..*\.upstream_rq_(time|completed|[1-5]xx)")
    assert {name for name in sidecar - envoy if not OURS.match(name) and not late.fullmatch(name)} == set()
    assert len(sidecar & envoy) > 180


def lines(page: Page) -> list[str]:
    assert page.status == 200
    return page.body.splitlines()


COUNTED = (
    "http.web.downstream_rq_total|http.web.downstream_rq_completed|http.web.downstream_rq_2xx"
    "|http.web.downstream_rq_3xx|http.web.downstream_rq_4xx|http.web.downstream_rq_5xx"
    "|http.web.downstream_rq_active|http.web.downstream_cx_active|http.web.rq_direct_response"
    "|http.web.(no_cluster|no_route)|cluster.refusing.upstream_rq_(5xx|completed|pending_failure_eject)"
    "|cluster.upstream.upstream_cx_destroy(_local|_remote)?_with_active_rq"
    "|cluster.upstream.upstream_rq_(timeout|cancelled)"
    "|cluster.upstream.upstream_rq_2xx|cluster.upstream.upstream_rq_4xx|cluster.upstream.upstream_rq_5xx"
    "|cluster.upstream.upstream_rq_completed|cluster.refusing.upstream_rq_total"
    "|cluster.refusing.upstream_cx_connect_fail|cluster.refusing.upstream_rq_pending_active"
    "|cluster.(upstream|refusing|named).membership_(total|healthy)|tcp.raw.downstream_cx_total"
    "|tcp.raw.downstream_cx_[rt]x_bytes_total|listener_manager.total_listeners_active"
    "|cluster_manager.active_clusters|server.(live|state|concurrency)"
).replace(".", r"\.")


def test_values_that_the_requests_decide_are_the_same(pair: Pair) -> None:
    envoy, sidecar = (lines(page) for page in pair.ask(f"/stats?filter=^({COUNTED})$"))
    assert sidecar == envoy
    assert "http.web.downstream_rq_total: 12" in sidecar


def test_usedonly_leaves_out_unused_stats(pair: Pair) -> None:
    envoy, sidecar = (
        {line.partition(": ")[0] for line in lines(page)}
        for page in pair.ask(r"/stats?usedonly&filter=^http\.web\.downstream_rq_[0-9a-z]*$")
    )
    envoy.discard("http.web.downstream_rq_active")  # used, and 0 again
    assert sidecar == envoy
    assert "http.web.downstream_rq_1xx" not in sidecar


def test_stats_in_json_have_envoys_shape(pair: Pair) -> None:
    envoy, sidecar = (
        page.json["stats"]
        for page in pair.ask(r"/stats?format=json&filter=^http\.web\.downstream_(rq|cx)_[a-z0-9]*$")
    )
    theirs, ours = ({stat["name"]: stat["value"] for stat in stats[:-1]} for stats in (envoy, sidecar))
    assert ours.items() <= theirs.items()
    theirs_of, ours_of = (stats[-1]["histograms"] for stats in (envoy, sidecar))
    assert ours_of.keys() == theirs_of.keys()
    assert ours_of["supported_quantiles"] == theirs_of["supported_quantiles"]
    theirs_by, ours_by = (
        {histogram["name"]: histogram["values"] for histogram in histograms["computed_quantiles"]}
        for histograms in (theirs_of, ours_of)
    )
    assert ours_by.keys() == {"http.web.downstream_rq_time"}
    for name, values in ours_by.items():
        assert [value.keys() for value in values] == [value.keys() for value in theirs_by[name]]


def test_histograms_in_text_have_envoys_form(pair: Pair) -> None:
    form = re.compile(r"[a-z._]+:( P[0-9.]+\((nan|[0-9.e+-]+),[0-9.e+-]+\)){10}")
    names = []
    for page in pair.ask(r"/stats?filter=^http\.web\.downstream_rq_time$"):
        (line,) = lines(page)
        assert form.fullmatch(line)
        names.append(re.findall(r"P[0-9.]+", line))
    assert names[0] == names[1]


def families(page: Page) -> dict[str, Metric]:
    found = list(text_string_to_metric_families(page.body))
    by_name = {family.name: family for family in found}
    # The counters by code and those in sum share a name.
    assert len(found) - len(by_name) <= (1 if "envoy_response_code=" in page.body else 0)
    return by_name


def label_keys(family: Metric) -> set[frozenset[str]]:
    """But of the counters by code, which Envoy alone has."""
    labels = [sample.labels.keys() for sample in family.samples]
    return {frozenset(keys - {"le"}) for keys in labels if "envoy_response_code" not in keys}


@pytest.mark.parametrize("path", ["/stats/prometheus", "/stats?format=prometheus"])
def test_prometheus_families_have_envoys_types_and_labels(pair: Pair, path: str) -> None:
    envoy, sidecar = (families(page) for page in pair.ask(path))
    common = envoy.keys() & sidecar.keys()
    for name in common:
        ours, theirs = sidecar[name], envoy[name]
        assert (ours.type, label_keys(ours)) == (theirs.type, label_keys(theirs)), name
    assert len(common) > 80
    istio = {name for name in sidecar if name.startswith("istio_")}
    assert {"istio_requests", "istio_request_duration_milliseconds", "istio_tcp_sent_bytes"} <= istio


def test_prometheus_can_be_filtered(pair: Pair) -> None:
    envoy, sidecar = (
        families(page).keys() for page in pair.ask("/stats/prometheus?filter=upstream_rq_retry&usedonly=")
    )
    assert envoy == {name for name in sidecar if name.startswith("envoy_")} == set()


# What does not exist, or must not be done by following a link.


def test_an_unknown_path_is_answered_with_help(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/nonsense")
    assert (envoy.status, sidecar.status) == (404, 404)
    assert envoy.body.splitlines()[0] == sidecar.body.splitlines()[0] == "invalid path. admin commands are:"
    envoy, sidecar = pair.ask("/help")
    assert commands(sidecar) - commands(envoy) == set()
    assert sidecar.body.splitlines()[0] == envoy.body.splitlines()[0]


def commands(page: Page) -> set[str]:
    return {line.partition(":")[0] for line in lines(page) if line.startswith("  /")}


@pytest.mark.parametrize("path", ["/logging", "/drain_listeners", "/quitquitquit"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_path_that_changes_state_needs_a_post(pair: Pair, path: str, method: str) -> None:
    envoy, sidecar = pair.ask(path, method)
    assert sidecar == envoy
    assert sidecar.status == 405


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("?level=info", 200),
        ("?upstream=debug", 200),
        ("?paths=upstream:debug,router:info", 200),
        ("?level=nonsense", 400),
        ("?nonsense=debug", 400),
        ("?level=info&upstream=debug", 400),
    ],
)
def test_logging_takes_the_same_parameters(pair: Pair, query: str, status: int) -> None:
    envoy, sidecar = pair.ask(f"/logging{query}", "POST")
    assert (envoy.status, sidecar.status) == (status, status)
    if status == 200:
        assert envoy.body.splitlines()[0] == sidecar.body.splitlines()[0] == "active loggers:"


# The end; from here on the pair serves no more.


def test_drained_listeners_accept_no_more(pair: Pair) -> None:
    for proxy in (pair.envoy, pair.sidecar):
        for query, left in (("?inboundonly", {"web", "secure"}), ("", set())):
            page = proxy.ask(f"/drain_listeners{query}", "POST")
            assert (page.status, page.body) == (200, "OK\n")
            proxy.process.wait_for(partial(only_these_accept, proxy, left), f"only {left} accept")


def only_these_accept(proxy: Proxy, names: set[str]) -> bool:
    return {name for name in LISTENERS if accepts(proxy.ports[name])} == names


def test_quitquitquit_ends_the_process(pair: Pair) -> None:
    for page in pair.ask("/quitquitquit", "POST"):
        assert (page.status, page.body) == (200, "OK\n")
    assert [proxy.process.process.wait(15) for proxy in (pair.envoy, pair.sidecar)] == [0, 0]
