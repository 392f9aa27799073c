"""`python -m sidecar` with settings that it cannot serve: one clear line, exit code 1, no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.bench.documents import bootstrap
from tests.support.control_plane import control_plane, create_token, outrigger
from tests.support.processes import free_port


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "sidecar",
        *map(str, arguments),
        "--status-port",
        "0",
        "--metrics-port",
        "off",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("sidecar: ")
    for word in words:
        assert word in line


def write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_listeners_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = write(tmp_path / "envoy.yaml", bootstrap(port, free_port(), 1))
        assert_one_line(run("-c", file), "listener 'bench'", f"127.0.0.1:{port}", "Address already in use")


def test_the_admin_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = write(tmp_path / "envoy.yaml", bootstrap(free_port(), port, 1))
        assert_one_line(run("-c", file), "admin", f"127.0.0.1:{port}", "Address already in use")


def test_a_bootstrap_file_that_is_not_there(tmp_path: Path) -> None:
    assert_one_line(run("-c", tmp_path / "no.yaml"), "no.yaml", "No such file")


def test_a_bootstrap_file_with_a_misspelt_field(tmp_path: Path) -> None:
    document = bootstrap(free_port(), free_port(), 1)
    document["static_resources"]["listners"] = document["static_resources"].pop("listeners")
    assert_one_line(run("-c", write(tmp_path / "envoy.yaml", document)), "envoy.yaml", "listners")


def test_an_unknown_flag() -> None:
    assert_one_line(run("--no-such-flag"), "--no-such-flag")


def test_a_token_of_another_control_plane(tmp_path: Path) -> None:
    with control_plane(tmp_path / "config", tmp_path / "state") as plane:
        (tmp_path / "elsewhere").mkdir()
        token = tmp_path / "token"
        token.write_text(create_token(tmp_path / "elsewhere", "default", "web"))
        made = outrigger(
            *("bootstrap", "--name", "web", "--namespace", "default", "--service-account", "web"),
            *("--xds-address", plane.xds_tls, "--ca-cert", plane.root_certificate, "--admin-port", "0"),
        )
        file = tmp_path / "bootstrap.yaml"
        file.write_text(made.stdout)
        identity = ("--ca-address", plane.xds_tls, "--ca-cert", plane.root_certificate, "--token-file", token)
        assert_one_line(run("-c", file, *identity), "no certificate", "UNAUTHENTICATED")
