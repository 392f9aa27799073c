from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from outrigger.__main__ import app
from outrigger.errors import CommandError
from tests.support.bootstrap_documents import NODE, bootstrap


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bootstrap", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def xds_cluster(document: dict[str, Any]) -> dict[str, Any]:
    [cluster] = document["static_resources"]["clusters"]
    return cluster


def test_an_envoy_over_tls_is_given_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    document = yaml.safe_load(
        run("--node", str(NODE), "--xds-address", "a:1", "--token-file", str(tmp_path / "token"))
    )
    [service] = document["dynamic_resources"]["ads_config"]["grpc_services"]
    assert service["initial_metadata"] == [{"key": "authorization", "value": "Bearer a.b.c"}]
    [service] = bootstrap()["dynamic_resources"]["ads_config"]["grpc_services"]
    assert "initial_metadata" not in service


def test_an_unreadable_token_is_rejected_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("absent", "cannot read"), ("binary", "does not contain a token")):
        with pytest.raises(CommandError, match=words):
            run("--node", str(NODE), "--xds-address", "a:1", "--token-file", str(tmp_path / name))


def test_the_command_prints_the_same_as_yaml_and_as_json() -> None:
    arguments = ["--name", "reviews-v1", "--namespace", "bookinfo", "--ip", "10.0.0.1"]
    arguments += ["--xds-address", "10.1.1.1:15010", "--label", "app=reviews", "--label", "version="]
    as_yaml, as_json = run(*arguments), run(*arguments, "--format", "json")
    assert (
        yaml.safe_load(as_yaml) == json.loads(as_json) == bootstrap(labels={"app": "reviews", "version": ""})
    )
    assert "&id" not in as_yaml, "no anchors: users read and edit the file"


def test_a_full_node_id_is_used_unchanged() -> None:
    document = yaml.safe_load(run("--node", str(NODE), "--xds-address", "10.1.1.1:15010"))
    assert document["node"]["id"] == str(NODE)
    assert document["node"]["metadata"]["NAMESPACE"] == "bookinfo"


def test_paths_are_absolute_wherever_the_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = yaml.safe_load(
        run("--node", str(NODE), "--xds-address", "a:1", "--ca-cert", "ca.pem", "--identity-dir", "id")
    )
    tls = xds_cluster(document)["transport_socket"]["typed_config"]["common_tls_context"]
    assert tls["validation_context"]["trusted_ca"]["filename"] == str(tmp_path / "ca.pem")
    key = document["static_resources"]["secrets"][0]["tls_certificate"]["private_key"]["filename"]
    assert key == str(tmp_path / "id" / "key.pem")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "exactly one of --node and --name is required"),
        (["--node", str(NODE), "--name", "x"], "exactly one of --node and --name is required"),
        (["--node", "reviews"], "node id 'reviews': expected <type>~<ip>"),
        (["--name", "x", "--label", "app"], "--label 'app': expected KEY=VALUE"),
    ],
)
def test_an_invalid_proxy_is_rejected_with_the_reason(arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError) as refusal:
        run(*arguments, "--xds-address", "a:1")
    assert words in str(refusal.value)
