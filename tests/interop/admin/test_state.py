"""The pages that describe the proxy, its listeners and its clusters, compared with Envoy's."""

from __future__ import annotations

import re
from typing import Any

from envoy.admin.v3 import certs_pb2, clusters_pb2, listeners_pb2, server_info_pb2
from google.protobuf import json_format

from tests.interop.admin.pair import Pair, parsed

# The sidecar has no routes of high priority. Envoy's connections may open and close between requests.
LEFT_OUT = re.compile(r"::(high_priority::|[^:]+(:\d+|\]:\d+)::(rq_pending_active|cx_|rq_active|rq_total))")


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


def test_listeners_are_the_same_in_both_forms(pair: Pair) -> None:
    envoy, sidecar = pair.ask("/listeners")
    assert envoy == sidecar
    envoy, sidecar = (parsed(p, listeners_pb2.Listeners()) for p in pair.ask("/listeners?format=json"))
    assert envoy == sidecar


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
