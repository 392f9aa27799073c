from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from protos import type_urls
from sidecar.bootstrap import load, parse_arguments
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError
from sidecar.xds.config_dump import ConfigDump
from sidecar.xds.state import XdsState
from sidecar.xds.store import RawResource
from sidecar.xds.updates import Updates
from tests.support.ads_server import packed
from tests.support.envoy_config import (
    bootstrap,
    eds_cluster,
    http_connection_manager,
    listener,
    load_assignment,
    rds,
    route_configuration,
    static_cluster,
)

ADMIN = "type.googleapis.com/envoy.admin.v3"


@pytest.fixture
async def dump() -> ConfigDump:
    document = bootstrap()
    key = {"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_string": "KEY"}}
    document["static_resources"]["secrets"] = [{"name": "s", "tls_certificate": key}]
    boot = load(parse_arguments(["--config-yaml", json.dumps(document)], {}))
    state = XdsState()

    async def take(snapshot: Snapshot) -> Mapping[str, ConfigError]:
        return {}

    updates = Updates(boot, take, state, clock=lambda: 0.0, wall_clock=lambda: 1700000000.5)
    for type_url, resource in (
        (type_urls.CLUSTER, static_cluster("active")),
        (type_urls.CLUSTER, eds_cluster("waiting")),
        (type_urls.CLUSTER, {**static_cluster("refused"), "lb_policy": "MAGLEV"}),
        (type_urls.LISTENER, listener("dynamic", http_connection_manager(rds=rds("r")))),
        (type_urls.ROUTE, route_configuration("r")),
        (type_urls.ENDPOINT, load_assignment("e", 1)),
    ):
        body = packed(type_url, resource).value
        updates.store.add(type_url, RawResource(version="7", type_url=type_url, body=body))
    await updates.publish()
    return ConfigDump(boot, updates.store, updates.warming, state)


def by_type(rendered: dict[str, Any]) -> dict[str, Any]:
    return {section["@type"].removeprefix(f"{ADMIN}."): section for section in rendered["configs"]}


def test_the_sections_are_envoys(dump: ConfigDump) -> None:
    sections = by_type(dump.render())
    assert list(sections) == [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ]
    clusters = sections["ClustersConfigDump"]
    assert [entry["cluster"]["name"] for entry in clusters["static_clusters"]] == ["a", "b"]
    (waiting,) = clusters["dynamic_warming_clusters"]
    assert waiting["cluster"]["@type"] == type_urls.CLUSTER
    assert waiting["version_info"] == "7"
    assert waiting["last_updated"] == "2023-11-14T22:13:20.500Z"
    active, refused = clusters["dynamic_active_clusters"]
    assert active["cluster"]["name"] == "active"
    assert refused["error_state"]["details"].startswith("lb_policy: MAGLEV is not supported")
    assert refused["error_state"]["failed_configuration"]["lb_policy"] == "MAGLEV"
    (dynamic,) = sections["ListenersConfigDump"]["dynamic_listeners"]
    assert dynamic["active_state"]["listener"]["name"] == "dynamic"
    assert sections["RoutesConfigDump"]["dynamic_route_configs"][0]["route_config"]["name"] == "r"


def test_endpoints_are_shown_when_asked_for(dump: ConfigDump) -> None:
    assert "EndpointsConfigDump" in by_type(dump.render(include_eds=True))
    (entry,) = dump.render(resource="dynamic_endpoint_configs")["configs"]
    assert entry["endpoint_config"]["cluster_name"] == "e"


def test_a_dump_can_be_limited_to_a_field_and_to_names(dump: ConfigDump) -> None:
    found = dump.render(resource="dynamic_active_clusters", name_regex="act.*")["configs"]
    assert [entry["cluster"]["name"] for entry in found] == ["active"]
    assert dump.render(resource="dynamic_active_clusters", name_regex="act")["configs"] == []
    with pytest.raises(ConfigError, match="nonsense is not a repeated field"):
        dump.render(resource="nonsense")
    with pytest.raises(ConfigError, match="name_regex: does not compile"):
        dump.render(name_regex="(")


def test_no_private_key_is_shown(dump: ConfigDump) -> None:
    shown = json.dumps(dump.render(include_eds=True))
    assert "CHAIN" in shown
    assert "KEY" not in shown
    (secret,) = dump.render(resource="static_secrets")["configs"]
    assert secret["name"] == "s"
    assert secret["secret"]["tls_certificate"]["private_key"]["inline_string"] == "[redacted]"
