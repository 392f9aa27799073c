"""The signing key in a cluster: all replicas share one key, which is stored in a Secret only."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509

from controlplane.ca.keys import private_key_pem
from protos.spiffe import SpiffeId
from sidecar.identity.key import WorkloadKey
from sidecar.identity.verification import accept
from tests.support.certificates import TestAuthority
from tests.support.cluster_control_plane import ClusterControlPlane, cluster_control_plane, published_roots
from tests.support.control_plane import FREE_PORTS
from tests.support.followed_cluster import by_way_of, server_of
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.processes import child
from tests.support.service_account_tokens import AUDIENCE, request_token
from tests.support.tcp_proxy import cutting_proxy

pytestmark = pytest.mark.usefixtures("own_cluster")


def lifetime() -> dict[str, float]:
    return {"not_before": time.time() - 3600, "not_after": time.time() + 90 * 24 * 3600}


async def create_secret(api: KubernetesApi, namespace: str, name: str, **data: bytes) -> None:
    """The names of the keys have underscores instead of characters that Python names cannot contain."""
    encoded = {
        key.replace("__", ".").replace("_", "-"): base64.b64encode(value).decode()
        for key, value in data.items()
    }
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    await api.create(secrets, {"metadata": {"name": name}, "data": encoded})


def command(cluster: Cluster, namespace: str, folder: Path) -> list[str]:
    flags = [
        "--source",
        "kubernetes",
        "--kubeconfig",
        str(cluster.kubeconfig),
        "--system-namespace",
        namespace,
    ]
    flags += ["--state-dir", str(folder / "state"), "--addresses-file", str(folder / "addresses.json")]
    return [sys.executable, "-m", "controlplane", *flags, *FREE_PORTS]


async def test_three_replicas_that_start_together_share_one_root(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    token = await request_token(api, namespace, audience=AUDIENCE)
    identity = SpiffeId("cluster.local", namespace, "default")
    bundles, leaves = set(), set()
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(child(command(cluster, namespace, folder), folder / "log"))
            for folder in folders
        ]
        for replica, folder in zip(replicas, folders, strict=True):
            addresses = folder / "addresses.json"
            await asyncio.to_thread(replica.wait_for, addresses.exists, "ready")
        roots = tmp_path / "roots.pem"
        roots.write_text(await published_roots(api, namespace))
        for folder in folders:
            xds_tls = json.loads((folder / "addresses.json").read_text())["xds_tls"]
            key = WorkloadKey()
            signed = await ClusterControlPlane(xds_tls=xds_tls, roots=roots).sign(
                token, key.signing_request()
            )
            svid = accept(signed, key, identity, time.time())
            leaves.add(x509.load_pem_x509_certificates(svid.chain)[0])
            bundles.add(signed.trust_bundle)
    [(bundle,)] = bundles
    assert bundle == roots.read_text()
    root = x509.load_pem_x509_certificate(bundle.encode())
    for leaf in leaves:
        leaf.verify_directly_issued_by(root)
    assert not any((folder / "state").exists() for folder in folders), "a key may be on disk"


async def test_a_plugged_in_authority_signs_and_no_root_is_generated(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    root = TestAuthority("root", **lifetime())
    intermediate = TestAuthority("intermediate", issuer=root, **lifetime())
    await create_secret(
        api,
        namespace,
        "cacerts",
        ca_cert__pem=intermediate.certificate_pem,
        ca_key__pem=private_key_pem(intermediate.key),
        cert_chain__pem=intermediate.certificate_pem + root.certificate_pem,
        root_cert__pem=root.certificate_pem,
    )
    async with cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane") as plane:
        assert plane.roots.read_bytes() == root.certificate_pem
        key = WorkloadKey()
        signed = await plane.sign(
            await request_token(api, namespace, audience=AUDIENCE), key.signing_request()
        )
        svid = accept(signed, key, SpiffeId("cluster.local", namespace, "default"), time.time())
        _, issuer = x509.load_pem_x509_certificates(svid.chain)
        assert issuer == intermediate.certificate
        secrets = await api.get(f"/api/v1/namespaces/{namespace}/secrets")
        assert [each["metadata"]["name"] for each in secrets["items"]] == ["cacerts"]


async def test_a_secret_that_cannot_sign_is_one_line_and_code_1(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    root, other = TestAuthority("root", **lifetime()), TestAuthority("other", **lifetime())
    await create_secret(
        api,
        namespace,
        "outrigger-ca-secret",
        ca_cert__pem=root.certificate_pem,
        ca_key__pem=private_key_pem(other.key),
    )
    ended = await asyncio.to_thread(
        subprocess.run, command(cluster, namespace, tmp_path), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    where = f"Secret {namespace}/outrigger-ca-secret"
    assert f"the key in {where}, ca-key.pem is not the key of the certificate in {where}" in ended.stderr


async def test_a_start_waits_for_the_api_server_and_logs_it(
    cluster: Cluster,
    api: KubernetesApi,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cutting_proxy(*server_of(cluster.kubeconfig)) as proxy:
        proxy.cut_after(0)
        kubeconfig = by_way_of(cluster.kubeconfig, proxy.port, tmp_path)

        async def start() -> str:
            async with cluster_control_plane(kubeconfig, api, namespace, tmp_path / "plane") as plane:
                return plane.roots.read_text()

        starting = asyncio.create_task(start(), name="start")

        async def has_said_so() -> bool:
            return "the signing key is not available yet" in caplog.text

        await eventually(has_said_so, "words in the log")
        proxy.stop_cutting()
        assert "BEGIN CERTIFICATE" in await starting
