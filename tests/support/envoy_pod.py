"""An Envoy pod of a test's mesh, as it is injected: the agent, and the real Envoy with the bootstrap document
of the injector."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.injection.bootstrap_document import Address, Bootstrap
from controlplane.model.proxy import InterceptionMode
from protos.node import IDENTITY_DIR, NodeId
from tests.support.admin_client import Page, ask
from tests.support.control_plane import RunningControlPlane, create_token
from tests.support.envoy import envoy_binary
from tests.support.json_api import get_json
from tests.support.pods import NAMESPACE
from tests.support.processes import Child, child, free_port


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyPod:
    """``envoy_token`` is the file from which Envoy reads its token, which is invalid at first.
    ``outbound`` is an HTTP proxy."""

    name: str
    folder: Path
    document: dict[str, Any]
    agent: Child
    status: int
    metrics: int
    admin: int
    outbound: int

    @property
    def identity_dir(self) -> Path:
        return self.folder / "identity"

    @property
    def envoy_token(self) -> Path:
        return self.folder / "envoy-token"

    def health(self, path: str) -> int:
        return ask(self.status, f"/healthz/{path}").status

    def ask_metrics_port(self, path: str, method: str = "GET") -> Page:
        return ask(self.metrics, path, method)

    def certificates(self) -> list[str]:
        """The serial numbers of the certificates that Envoy uses."""
        entries = get_json(f"127.0.0.1:{self.admin}", "/certs")["certificates"]
        return [chain["serial_number"] for entry in entries for chain in entry["cert_chain"]]

    @contextmanager
    def envoy(self, *flags: str) -> Iterator[Child]:
        command = [envoy_binary(), "--config-yaml", json.dumps(self.document), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warning", *flags]
        with child(command, self.folder / "envoy.log") as process:
            yield process


@contextmanager
def envoy_pod(plane: RunningControlPlane, work_dir: Path, name: str, *flags: str) -> Iterator[EnvoyPod]:
    """The agent runs, Envoy does not yet."""
    folder = work_dir / name
    folder.mkdir()
    token = folder / "token"
    token.write_text(create_token(plane.state_dir, NAMESPACE, name))
    (folder / "envoy-token").write_text("invalid")
    admin, outbound = free_port(), free_port()
    document = Bootstrap(
        node_id=NodeId(
            proxy_type="sidecar",
            ip="127.0.0.1",
            workload=name,
            namespace=NAMESPACE,
            dns_domain=f"{NAMESPACE}.svc.cluster.local",
        ),
        xds_address=Address.parse(plane.xds_tls),
        ca_certificate=plane.root_certificate,
        service_account=name,
        labels={"app": name},
        metadata={IDENTITY_DIR: str(folder / "identity")},
        admin_port=admin,
        http_proxy_port=outbound,
        interception=InterceptionMode.NONE,
        token_file=folder / "envoy-token",
    ).document()
    addresses = folder / "addresses"
    command = [sys.executable, "-m", "sidecar.agent", "--config-yaml", json.dumps(document)]
    command += ["--identity-dir", folder / "identity", "--token-file", token, "--ca-address", plane.xds_tls]
    command += ["--ca-cert", plane.root_certificate, "--addresses-file", addresses]
    command += ["--status-port", "0", "--metrics-port", "0", *flags]
    with child(command, folder / "agent.log") as agent:
        agent.wait_for(addresses.exists, "the agent's ports are open")
        opened = json.loads(addresses.read_text())
        status, metrics = (int(opened[port].rpartition(":")[2]) for port in ("status", "metrics"))
        yield EnvoyPod(
            name=name,
            folder=folder,
            document=document,
            agent=agent,
            status=status,
            metrics=metrics,
            admin=admin,
            outbound=outbound,
        )
