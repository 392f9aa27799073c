"""Everything of the network that pods of one node need: addresses, Services, names, the API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.kubernetes_api import KubernetesApi
from tests.support.node_agent.network import PodNetwork


@asynccontextmanager
async def node_network(api: KubernetesApi, api_server: str) -> AsyncIterator[PodNetwork]:
    """A network whose pods reach each other and the Services that the API has, by address and by name; the
    Service default/kubernetes is the API server, given as `host:port` as the machine reaches it. Pods resolve
    names at the network's `node_address` (see `pod_files.resolv_conf`). Everything is removed at the end."""
    async with PodNetwork() as network:
        yield network
