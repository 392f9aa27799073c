"""The control plane as a separate process on free ports, and the operator's command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.json_api import get_json
from tests.support.processes import Child, child

_PORTS = ("xds", "xds-tls", "webhook", "debug", "metrics")
FREE_PORTS = [word for name in _PORTS for word in (f"--{name}-port", "0")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningControlPlane:
    """``HOST:PORT`` of each port, available when all of them serve."""

    process: Child
    state_dir: Path
    xds: str
    xds_tls: str
    debug: str
    metrics: str

    @property
    def root_certificate(self) -> Path:
        return self.state_dir / "root-cert.pem"

    def debug_json(self, path: str) -> Any:
        return get_json(self.debug, path)

    def types(self, workload: str) -> dict[str, dict[str, Any]]:
        """Returns the state of the only proxy of a workload in `/debug/syncz`, by ``cds``, ``eds``, ``lds``
        and ``rds``; None while it is not connected. Fails if the proxy has rejected anything."""
        streams = [each for each in self.debug_json("/debug/syncz") if each["workload"] == workload]
        if not streams:
            return {}
        # A proxy can reconnect before the end of its old stream is detected.
        types: dict[str, dict[str, Any]] = streams[-1]["types"]
        refused = {name: each["rejection"] for name, each in types.items() if each["rejection"]}
        assert not refused, refused
        return types

    def synced(self, workload: str) -> bool:
        """Whether a proxy has acknowledged everything: clusters, endpoints, listeners and routes, and the
        name table if it captures DNS."""
        types = self.types(workload)
        return len(types) >= 4 and all(each["state"] == "SYNCED" for each in types.values())

    def quarantined(self) -> list[dict[str, Any]]:
        """Returns the resources whose newest version is not in force."""
        resources = self.debug_json("/debug/statusz")["resources"]
        return [each for each in resources if each["reasons"]]


@contextmanager
def control_plane(folder: Path, state_dir: Path, *flags: str) -> Iterator[RunningControlPlane]:
    """Runs until the block ends. Creates ``folder`` if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    addresses = state_dir / "addresses.json"
    addresses.unlink(missing_ok=True)
    where = ["--folder", str(folder), "--state-dir", str(state_dir), "--addresses-file", str(addresses)]
    command = [sys.executable, "-m", "controlplane", *where, *FREE_PORTS, *flags]
    with child(command, state_dir / "log") as process:
        process.wait_for(addresses.exists, "the control plane is ready")
        yield RunningControlPlane(process=process, state_dir=state_dir, **json.loads(addresses.read_text()))


def outrigger(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the operator's command to its end, and returns its result also if it fails."""
    command = [sys.executable, "-m", "outrigger", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def create_token(state_dir: Path, namespace: str, service_account: str) -> str:
    who = ["--namespace", namespace, "--service-account", service_account]
    created = outrigger("token", "create", *who, "--state-dir", state_dir)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip()
