"""A control plane for a cluster in the test's own event loop, and a client for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from controlplane.runtime import ControlPlane
from controlplane.settings import read_settings
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate
from sidecar.signing import SigningClient
from tests.support.control_plane import FREE_PORTS
from tests.support.kubernetes_api import KubernetesApi, eventually

ROOTS_CONFIG_MAP = "outrigger-ca-root-cert"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterControlPlane:
    """``xds_tls``, ``webhooks``, ``debug`` and ``metrics`` are HOST:PORT; ``roots`` is a file with the trust
    bundle of the ConfigMap."""

    xds_tls: str
    webhooks: str = ""
    debug: str = ""
    metrics: str = ""
    roots: Path

    async def sign(self, token: str, signing_request: str = "") -> SignedCertificate:
        """Requests a certificate like a sidecar, with the same errors."""
        client = SigningClient(
            address=self.xds_tls, root_certificate_file=self.roots, token=lambda: token, lifetime_s=60.0
        )
        return await client.sign(signing_request or WorkloadKey().signing_request())


@asynccontextmanager
async def cluster_control_plane(
    kubeconfig: Path, api: KubernetesApi, namespace: str, folder: Path, *flags: str
) -> AsyncIterator[ClusterControlPlane]:
    """Runs until the block ends, with its Secrets in ``namespace`` and a state folder that cannot be
    created."""
    folder.mkdir(parents=True)
    addresses, no_folder = folder / "addresses.json", folder / "file"
    no_folder.touch()
    command = ["--source", "kubernetes", "--kubeconfig", str(kubeconfig), "--system-namespace", namespace]
    command += ["--state-dir", str(no_folder / "state"), "--addresses-file", str(addresses), *FREE_PORTS]
    plane, stop = ControlPlane(read_settings([*command, *flags], {})), asyncio.Event()
    try:
        await plane.start()
        following = asyncio.create_task(plane.follow(stop), name="follow")
        roots = folder / "roots.pem"
        roots.write_text(await published_roots(api, namespace))
        found = json.loads(addresses.read_text())
        ports = {name: found[name] for name in ("xds_tls", "webhooks", "debug", "metrics")}
        yield ClusterControlPlane(**ports, roots=roots)
        stop.set()
        await following
    finally:
        await plane.close()


async def published_roots(api: KubernetesApi, namespace: str) -> str:
    """Returns the roots as a pod of the namespace mounts them, once they exist."""
    path = f"/api/v1/namespaces/{namespace}/configmaps/{ROOTS_CONFIG_MAP}"
    config_map = await eventually(lambda: api.get(path), "the roots are published")
    roots: str = config_map["data"]["root-cert.pem"]
    return roots
