"""The debug API from an address that is not loopback: a real API server decides on the caller."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.cluster_control_plane import cluster_control_plane
from tests.support.debug_reader import debug_reader
from tests.support.kubernetes_api import KubernetesApi, eventually
from tests.support.kubernetes_cluster import Cluster
from tests.support.own_address import own_address
from tests.support.service_account_tokens import AUDIENCE, request_token

pytestmark = pytest.mark.usefixtures("own_cluster")


async def test_rbac_decides_who_reads_the_debug_api(
    cluster: Cluster, api: KubernetesApi, namespace: str, tmp_path: Path
) -> None:
    bind = ("--bind-address", own_address())
    async with (
        cluster_control_plane(cluster.kubeconfig, api, namespace, tmp_path / "plane", *bind) as plane,
        httpx.AsyncClient(base_url=f"http://{plane.debug}", trust_env=False) as http,
    ):

        async def get(path: str, token: str = "") -> httpx.Response:
            return await http.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})

        assert (await get("/ready")).status_code == 200
        assert (await get("/debug/syncz")).status_code == 401
        assert (await get("/debug/syncz", "not-a-token")).status_code == 401
        # A token for certificates, which sidecars have, is none for the API server.
        sidecars = await request_token(api, namespace, audience=AUDIENCE)
        assert (await get("/debug/syncz", sidecars)).status_code == 401
        token = await debug_reader(api, namespace)

        async def is_permitted() -> bool:
            return (await get("/debug/syncz", token)).status_code == 200

        await eventually(is_permitted, "the permission counts")
        forbidden = await get("/openapi.json", token)
        assert forbidden.status_code == 403
        user = f"system:serviceaccount:{namespace}:default"
        assert forbidden.json() == {"detail": f"{user} has no permission to get the path /openapi.json"}
