"""What only HTTP/2 has, and gRPC over it: an upstream of HTTP/2 behind clients of both versions. The flags of
the access log are compared too."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.interop.parity.comparison import ProxyPair, Row
from tests.interop.parity.conftest import proxy_command
from tests.interop.parity.http2_call_rows import OTHER_FLAGS, ROWS
from tests.interop.parity.http2_calls import Call, converse
from tests.interop.parity.http2_scripts import SCRIPTS
from tests.support.envoy_config import (
    HTTP_OPTIONS,
    TYPE,
    address,
    http_connection_manager,
    listener,
    load_assignment,
    router,
)
from tests.support.processes import child, free_port
from tests.support.scripted_http2_upstream import ScriptedHttp2Upstream, scripted_http2_upstream

DEADLINE_S = 5.0
POLL_S = 0.05
pytestmark = pytest.mark.timeout(300)  # the first test sends all rows


def _routes() -> list[dict[str, Any]]:
    fault = f"{TYPE}/envoy.extensions.filters.http.fault.v3.HTTPFault"
    always = {"numerator": 100}

    def to(path: str, cluster: str = "upstream", **action: Any) -> dict[str, Any]:
        return {"match": {"path": path}, "route": {"cluster": cluster, **action}}

    def faulty(path: str, **abort: Any) -> dict[str, Any]:
        config = {"fault": {"@type": fault, "abort": {"percentage": always, **abort}}}
        return {**to(path), "typed_per_filter_config": config}

    retry = {"num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}}
    return [
        to("/"),
        to("/timeout", timeout="0.2s"),
        to("/per-try", retry_policy={**retry, "retry_on": "gateway-error", "per_try_timeout": "0.1s"}),
        to("/idle", idle_timeout="0.2s"),
        to("/duration", max_stream_duration={"max_stream_duration": "0.2s"}),
        to("/no-cluster", "missing"),
        to("/no-cluster-404", "missing", cluster_not_found_response_code="NOT_FOUND"),
        to("/no-hosts", "empty"),
        to("/refused", "refusing"),
        to("/overflow", "overflowing"),
        to("/reset", retry_policy={**retry, "retry_on": "reset"}),
        to("/refused-stream", retry_policy={**retry, "retry_on": "refused-stream"}),
        to("/5xx", retry_policy={**retry, "retry_on": "5xx"}),
        to("/unavailable", retry_policy={**retry, "retry_on": "unavailable"}),
        faulty("/fault", http_status=418),
        faulty("/grpc-fault", grpc_status=8),
        {"match": {"path": "/direct"}, "direct_response": {"status": 403, "body": {"inline_string": "no"}}},
        {"match": {"path": "/direct-empty"}, "direct_response": {"status": 429}},
        {"match": {"path": "/redirect"}, "redirect": {"path_redirect": "/elsewhere"}},
        {"match": {"path": "/rewrite"}, "route": {"cluster": "upstream", "prefix_rewrite": "/written"}},
        {
            "match": {"path": "/host"},
            "route": {"cluster": "upstream", "host_rewrite_literal": "written.test"},
        },
    ]


def _document(ports: dict[str, int], upstream: int, refusing: int, log: Path) -> dict[str, Any]:
    access_log = {
        "@type": f"{TYPE}/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(log),
        "log_format": {
            "text_format_source": {
                "inline_string": "%REQ(X-ROW)%|%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS%\n"
            }
        },
    }
    probe = {
        "name": "probe",
        "domains": ["probe.test"],
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
    }
    forwarding = {
        "name": "forwarding",
        "domains": ["forwarding.test"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
    }
    calls = {"name": "calls", "domains": ["calls.test"], "routes": _routes()}
    fault = {
        "name": "fault",
        "typed_config": {"@type": f"{TYPE}/envoy.extensions.filters.http.fault.v3.HTTPFault"},
    }
    options = {
        "codec_type": "AUTO",
        "delayed_close_timeout": "0.05s",
        "http_protocol_options": {"enable_trailers": True},
        "access_log": [{"name": "file", "typed_config": access_log}],
        "http_filters": [fault, router()],
        "route_config": {
            "name": "calls",
            "validate_clusters": False,
            "virtual_hosts": [probe, forwarding, calls],
        },
    }
    http2 = {
        HTTP_OPTIONS: {
            "@type": f"{TYPE}/{HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }

    def cluster(name: str, port: int | None, **fields: Any) -> dict[str, Any]:
        hosts = {"cluster_name": name} if port is None else load_assignment(name, port)
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "2s",
            "typed_extension_protocol_options": http2,
            "load_assignment": hosts,
            **fields,
        }

    no_requests = {"thresholds": [{"max_requests": 0}]}
    return {
        "node": {"id": "parity", "cluster": "parity"},
        "admin": {"address": address(ports["admin"])},
        "static_resources": {
            "listeners": [
                listener("plain", http_connection_manager(**options), ports["plain"]),
                listener("edge", http_connection_manager(**options, use_remote_address=True), ports["edge"]),
            ],
            "clusters": [
                cluster("upstream", upstream),
                cluster("refusing", refusing),
                cluster("overflowing", upstream, circuit_breakers=no_requests),
                cluster("empty", None),
            ],
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    pair: ProxyPair
    upstream: ScriptedHttp2Upstream
    admin_ports: dict[str, int]
    logs: dict[str, Path]

    def send(self, row: Row, name: str) -> Exception | None:
        """Returns the difference between the two proxies."""
        sends = converse(self.upstream.until_asked) if isinstance(row, Call) else None
        try:
            self.pair.check(_named(row, name), sends)
        except Exception as error:
            return error
        return None

    def logged(self, names: set[str]) -> dict[str, dict[str, str]]:
        """By proxy and row: what the access log says. The sidecar writes its log each second."""
        end_s = time.monotonic() + DEADLINE_S
        while True:
            found = {proxy: self._lines(proxy) for proxy in self.logs}
            complete = all(names <= lines.keys() for lines in found.values())
            if complete or time.monotonic() >= end_s:
                return found
            time.sleep(POLL_S)

    def _lines(self, proxy: str) -> dict[str, str]:
        lines = self.logs[proxy].read_text().splitlines(keepends=True)
        parts = (line.rstrip("\n").partition("|") for line in lines if line.endswith("\n"))
        return {name: rest for name, _, rest in parts}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calls]:
    folder = tmp_path_factory.mktemp("calls")
    with ExitStack() as stack:
        upstream = stack.enter_context(scripted_http2_upstream(SCRIPTS))
        refusing = stack.enter_context(socket.socket())
        refusing.bind(("127.0.0.1", 0))  # and never listens
        ports, logs, children = {}, {}, {}
        for name in ("envoy", "sidecar"):
            ports[name] = {port: free_port() for port in ("plain", "edge", "admin")}
            logs[name] = folder / f"{name}.access"
            file = folder / f"{name}.json"
            document = _document(ports[name], upstream.port, refusing.getsockname()[1], logs[name])
            file.write_text(json.dumps(document))
            command = proxy_command(name, file)
            if name == "envoy":
                command += ["--file-flush-interval-msec", "10"]
            children[name] = stack.enter_context(child(command, folder / f"{name}.log"))
        for name, process in children.items():
            process.wait_for_port(ports[name]["edge"])
        yield Calls(
            pair=ProxyPair(ports["envoy"], ports["sidecar"], upstream),  # type: ignore[arg-type]
            upstream=upstream,
            admin_ports={name: ports[name]["admin"] for name in ports},
            logs=logs,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    difference: Exception | None
    envoy_logged: str | None
    sidecar_logged: str | None


@pytest.fixture(scope="module")
def outcomes(calls: Calls, request: pytest.FixtureRequest) -> dict[str, Outcome]:
    """Of the rows that are selected. They share one wait for the access logs."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    ours = [item for item in items if item.originalname == test_call.__name__ and item.path == request.path]
    names = [item.callspec.params["name"] for item in ours]
    differences = {name: calls.send(ROWS[name], name) for name in names}
    logged = calls.logged({name for name in names if not name.startswith("invalid: ")})
    return {
        name: Outcome(difference, logged["envoy"].get(name), logged["sidecar"].get(name))
        for name, difference in differences.items()
    }


def _named(row: Row, name: str) -> Row:
    if isinstance(row, Call):
        return replace(row, head=[*row.head, ("x-row", name)])
    line, rest = row.request.split(b"\r\n", 1)
    return replace(row, request=line + b"\r\nx-row: " + name.encode() + b"\r\n" + rest)


@pytest.mark.parametrize("name", ROWS)
def test_call(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    if outcome.difference is not None:
        raise outcome.difference
    envoys, ours = OTHER_FLAGS.get(name, (outcome.envoy_logged, outcome.envoy_logged))
    assert (envoys is None) == name.startswith("invalid: ")
    assert (outcome.envoy_logged, outcome.sidecar_logged) == (envoys, ours)


COUNTED = (
    *("resets: reset CANCEL", "resets: reset CONNECT_ERROR", "resets: head, reset NO_ERROR"),
    *("resets: half, reset REFUSED_STREAM", "resets: half, reset CANCEL", "resets: retried refusal"),
    *("resets: connection that ends", "resets: connection that ends in the body"),
    "resets: client resets with CANCEL before the response",
    "resets: client resets with NO_ERROR after the head",
    *("messages: trailers", "messages: trailers with te", "messages: length, too short", "messages: early"),
    *("messages: length, too long", "broken: connection", "broken: too large head", "broken: no status"),
    *("requests: trailers", "replies: no route", "replies: timeout", "replies: per-try timeout"),
    *("replies: idle", "replies: overflow", "replies: refused", "unusual: stream that lasts too long"),
    *("invalid: connection: close", "invalid: length without a body", "invalid: two hosts"),
    *("fragments: /#", "fragments: with a body that has not ended", "grpc: grpc", "grpc: grpc cut"),
    *("grpc: early end", "grpc: grpc unavailable", "invalid trailers: te: gzip"),
    *("http1: resets half, reset NO_ERROR", "http1: messages trailers, length"),
)
COUNTERS = re.compile(
    r"(http\.http\.downstream_(rq_(total|http[12]_total|completed|[2-5]xx|active|failed_path_normalization|timeout"
    r"|[rt]x_reset|response_before_rq_complete|idle_timeout|max_duration_reached)|cx_(http[12]_)?total"
    r"|cx_protocol_error)"
    r"|http2\.([rt]x_reset|rx_messaging_error|goaway_sent|header_overflow|header_list_size_too_large)"
    r"|cluster\.upstream\.(http2\.([rt]x_reset|rx_messaging_error|goaway_sent|header_overflow|trailers"
    r"|header_list_size_too_large)|upstream_rq_([rt]x_reset|cancelled|total|completed|[2-5]xx|active|timeout"
    r"|per_try_timeout|pending_failure_eject|retry|retry_success|retry_limit_exceeded)"
    r"|upstream_cx_protocol_error)): (\d+)"
)


def _counters(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=DEADLINE_S) as answer:
        lines = answer.read().decode().splitlines()
    found = [match for line in lines if (match := COUNTERS.fullmatch(line))]
    return {match[0].partition(":")[0]: int(match[0].rpartition(" ")[2]) for match in found}


def test_counters(calls: Calls) -> None:
    """Counters of the same names grow by the same numbers."""
    before = {proxy: _counters(port) for proxy, port in calls.admin_ports.items()}
    for name in COUNTED:
        calls.send(ROWS[name], f"counted {name}")
    end_s = time.monotonic() + DEADLINE_S
    while True:
        grown = {}
        for proxy, port in calls.admin_ports.items():
            grown[proxy] = {
                name: count - before[proxy].get(name, 0) for name, count in _counters(port).items()
            }
        if grown["envoy"] == grown["sidecar"] or time.monotonic() > end_s:
            break
        time.sleep(POLL_S)
    assert grown["sidecar"] == grown["envoy"]
    assert sum(count > 0 for count in grown["envoy"].values()) > 25


def test_there_are_enough_calls() -> None:
    assert len(ROWS) > 150
