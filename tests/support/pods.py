"""Pods of a test's mesh: an application that the test provides, and a real sidecar process."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.control_plane import RunningControlPlane, create_token, outrigger
from tests.support.documents import Document
from tests.support.mesh_folder import MeshFolder
from tests.support.processes import Child, child, free_port

NAMESPACE = "default"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPod:
    """`inbound` receives requests from other pods, `outbound` is the HTTP proxy of the pod's application."""

    name: str
    sidecar: Child
    command: list[str]
    inbound: int
    outbound: int
    admin: int
    status: int

    def admin_get(self, path: str) -> str:
        with OPENER.open(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def is_ready(self) -> bool:
        try:
            OPENER.open(f"http://127.0.0.1:{self.status}/healthz/ready", timeout=5).close()
        except OSError:
            return False
        return True

    def wait_until_ready(self) -> None:
        self.sidecar.wait_for(self.is_ready, f"the sidecar of {self.name} is ready")


@contextmanager
def pod(
    plane: RunningControlPlane, folder: MeshFolder, work_dir: Path, name: str, app_port: int, *flags: str
) -> Iterator[RunningPod]:
    """A pod of the service `name`, its sidecar started but perhaps not ready."""
    inbound, outbound, admin, status = (free_port() for _ in range(4))
    folder.write(f"pod-{name}", *pod_resources(name, inbound, app_port))
    pod_dir = work_dir / name
    pod_dir.mkdir()
    token = pod_dir / "token"
    token.write_text(create_token(plane.state_dir, NAMESPACE, name))
    bootstrap = pod_dir / "bootstrap.yaml"
    made = outrigger(
        *("bootstrap", "--name", name, "--namespace", NAMESPACE, "--service-account", name),
        *("--label", f"app={name}", "--xds-address", plane.xds_tls, "--ca-cert", plane.root_certificate),
        *("--admin-port", str(admin), "--http-proxy-port", str(outbound), "--interception", "NONE"),
    )
    assert made.returncode == 0, made.stderr
    bootstrap.write_text(made.stdout)
    command = [sys.executable, "-m", "sidecar", "-c", str(bootstrap), "--token-file", str(token)]
    command += ["--ca-address", plane.xds_tls, "--ca-cert", str(plane.root_certificate)]
    command += ["--cache-dir", str(pod_dir / "cache"), "--status-port", str(status), "--metrics-port", "off"]
    command += ["--drain-time-s", "0", *flags]
    with child(command, pod_dir / "log") as sidecar:
        yield RunningPod(
            name=name,
            sidecar=sidecar,
            command=command,
            inbound=inbound,
            outbound=outbound,
            admin=admin,
            status=status,
        )


def service(name: str, port: int = 9080) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port}]},
    }


def strict_mtls() -> Document:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def pod_resources(name: str, inbound: int, app_port: int) -> list[Document]:
    metadata = {"name": name, "namespace": NAMESPACE}
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": metadata,
        "spec": {
            "address": "127.0.0.1",
            "ports": {"http": inbound},
            "labels": {"app": name, "security.istio.io/tlsMode": "istio"},
            "serviceAccount": name,
        },
    }
    sidecar = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": metadata,
        "spec": {
            "workloadSelector": {"labels": {"app": name}},
            "ingress": [
                {
                    "port": {"number": inbound, "protocol": "HTTP", "name": "http"},
                    "bind": "127.0.0.1",
                    "defaultEndpoint": f"127.0.0.1:{app_port}",
                    "captureMode": "NONE",
                }
            ],
        },
    }
    return [entry, sidecar]
