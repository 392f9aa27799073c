from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.agent.settings import parse_agent_arguments
from sidecar.config.endpoint import SocketAddress
from sidecar.errors import BootstrapError

NODE = {"id": "sidecar~10.0.0.5~web.default~default.svc.cluster.local", "metadata": {"NAMESPACE": "default"}}


def admin(port: Any) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}


def environment(**document: Any) -> dict[str, str]:
    return {
        "OUTRIGGER_CONFIG_YAML": json.dumps({"node": NODE, **document}),
        "OUTRIGGER_CA_ADDRESS": "cp:15012",
    }


def test_the_document_of_envoy_names_the_workload_and_the_admin_port() -> None:
    # The rest of it is for Envoy, and may be what a sidecar does not support.
    document = environment(admin=admin(15999), dynamic_resources={"ads_config": {"grpc_services": ["any"]}})
    arguments = ["--identity-dir", "/identity", "--drain-time-s=20", "--cache-dir=/var/lib/outrigger"]
    parsed = parse_agent_arguments(arguments, document)
    assert parsed.identity_dir == Path("/identity")
    assert parsed.bootstrap.node_id == NODE["id"]
    assert parsed.bootstrap.node_metadata == {"NAMESPACE": "default"}
    assert parsed.bootstrap.admin_address == SocketAddress("127.0.0.1", 15999)
    assert parsed.settings.drain_time_s == 20
    assert parsed.settings.ca_address == "cp:15012"


def test_the_admin_port_is_15000_by_default() -> None:
    parsed = parse_agent_arguments(["--identity-dir", "/identity"], environment())
    assert parsed.bootstrap.admin_address == SocketAddress("127.0.0.1", 15000)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"admin": admin("x")}, "port_value: invalid port 'x'"),
        ({"admin": admin(0)}, "port_value: invalid port 0"),
        ({"admin": []}, "--config-yaml: admin: should be a mapping"),
        ({"node": "web"}, "--config-yaml: node: should be a mapping"),
    ],
)
def test_an_invalid_document_is_refused_with_its_field(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(BootstrapError, match=reason):
        parse_agent_arguments(["--identity-dir", "/identity"], environment(**document))


@pytest.mark.parametrize(
    "missing", ["OUTRIGGER_CONFIG_YAML", "OUTRIGGER_CA_ADDRESS", "OUTRIGGER_IDENTITY_DIR"]
)
def test_the_required_flags(missing: str) -> None:
    variables = {**environment(), "OUTRIGGER_IDENTITY_DIR": "/identity"}
    del variables[missing]
    with pytest.raises(BootstrapError, match="are required"):
        parse_agent_arguments([], variables)
