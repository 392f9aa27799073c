"""The bootstrap files that `outrigger bootstrap` prints, in the hands of the real Envoy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.control_plane import RunningControlPlane, control_plane, create_token, outrigger
from tests.support.envoy import envoy_command
from tests.support.processes import child, free_port

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookinfo}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: 9080}]
"""
WHO = ["--name", "productpage", "--namespace", "bookinfo", "--service-account", "productpage"]


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[RunningControlPlane]:
    folder = tmp_path / "mesh"
    folder.mkdir()
    (folder / "reviews.yaml").write_text(SERVICE)
    with control_plane(folder, tmp_path / "state") as running:
        yield running


def over_tls(plane: RunningControlPlane, folder: Path) -> list[str | Path]:
    """The options of an Envoy that proves who it is, with a certificate from the control plane."""
    token = folder / "token"
    token.write_text(create_token(plane.state_dir, "bookinfo", "productpage"))
    trust = ["--ca-cert", plane.root_certificate, "--token-file", token]
    requested = outrigger(
        "certificate", "request", "--ca-address", plane.xds_tls, *trust, "--out", folder / "id"
    )
    assert requested.returncode == 0, requested.stderr
    return [*WHO, "--xds-address", plane.xds_tls, *trust, "--identity-dir", folder / "id"]


def write_bootstrap(path: Path, *options: str | Path) -> Path:
    printed = outrigger("bootstrap", *options)
    assert printed.returncode == 0, printed.stderr
    path.write_text(printed.stdout)
    return path


@pytest.mark.parametrize("encoding", ["yaml", "json"])
@pytest.mark.parametrize("transport", ["plaintext", "tls"])
@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_envoy_takes_the_file_without_a_warning(
    plane: RunningControlPlane, tmp_path: Path, encoding: str, transport: str, variant: str
) -> None:
    options = over_tls(plane, tmp_path) if transport == "tls" else [*WHO, "--xds-address", plane.xds]
    options += [variant, "--format", encoding, "--interception", "NONE", "--http-proxy-port", "15080"]
    bootstrap = write_bootstrap(tmp_path / f"bootstrap.{encoding}", *options)
    checked = subprocess.run(
        envoy_command(bootstrap, "--mode", "validate"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == "", "at log level warning, silence is success"


@pytest.mark.parametrize("variant", ["--delta", "--sotw"])
def test_envoy_follows_the_control_plane_over_tls_and_acknowledges_everything(
    plane: RunningControlPlane, tmp_path: Path, variant: str
) -> None:
    admin, proxy = free_port(), free_port()
    ports = ["--admin-port", str(admin), "--http-proxy-port", str(proxy), "--interception", "NONE"]
    bootstrap = write_bootstrap(tmp_path / "bootstrap.yaml", *over_tls(plane, tmp_path), variant, *ports)

    def types() -> dict[str, str]:
        proxies = httpx.get(f"http://{plane.debug}/debug/syncz", trust_env=False).json()
        return {name: status["state"] for name, status in proxies[0]["types"].items()} if proxies else {}

    def synced() -> bool:
        states = types()
        assert "ERROR" not in states.values(), plane.process.output
        return {"cds", "lds"} <= states.keys() and set(states.values()) == {"SYNCED"}

    with child(envoy_command(bootstrap), tmp_path / "envoy.log") as envoy:
        envoy.wait_for(synced, "everything is acknowledged")
        envoy.wait_for_port(proxy)
        # Envoy asks every operator for a limit of connections; that is no matter of what it was sent.
        complaints = [line for line in envoy.output.splitlines() if "no configured limit" not in line]
        assert complaints == []
