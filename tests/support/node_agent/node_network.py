"""Everything of the network that pods of a node need: addresses, Services, names, the API server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network

from tests.support.kubernetes_api import KubernetesApi
from tests.support.node_agent.commands import CommandError
from tests.support.node_agent.following import Collection, follow
from tests.support.node_agent.forwarder import tcp_forwarder
from tests.support.node_agent.name_server import name_server
from tests.support.node_agent.network import PodNetwork
from tests.support.node_agent.services import translation_rules
from tests.support.node_agent.zone import Zone, zone_of

NODES = "/api/v1/nodes"
SERVICES = "/api/v1/services"
# Of a Node: the subnet of its pods. `spec.podCIDR` cannot be changed by an agent that takes the Node over.
SUBNET_ANNOTATION = "node-agent.test/subnet"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"

_LOG = logging.getLogger(__name__)


@asynccontextmanager
async def node_network(api: KubernetesApi, api_server: str) -> AsyncIterator[PodNetwork]:
    """A network whose pods reach each other and the Services that the API has, by address and by name; the
    Service default/kubernetes is the API server, given as `host:port` as the machine reaches it. Pods resolve
    names at the network's `node_address` (see `pod_files.resolv_conf`). Everything is removed at the end."""
    async with PodNetwork() as network, tcp_forwarder(network.node_address, api_server) as forwarder:
        directory = ServiceDirectory()
        async with name_server(network.node_address, lambda: directory.zone):
            work = asyncio.create_task(keep_up(api, directory, network, forwarder), name="follow Services")
            try:
                yield network
            finally:
                work.cancel()
                await asyncio.wait([work])
            if not work.cancelled():
                work.result()


class ServiceDirectory:
    """The Services and EndpointSlices as they are known now."""

    def __init__(self) -> None:
        self.services: Collection = {}
        self.slices: Collection = {}
        self.zone: Zone = {}
        self._changed = asyncio.Event()

    async def follow_services(self, api: KubernetesApi) -> None:
        async for services in follow(api, SERVICES):
            self.services = services
            self._note_change()

    async def follow_slices(self, api: KubernetesApi) -> None:
        async for slices in follow(api, SLICES):
            self.slices = slices
            self._note_change()

    async def change(self) -> None:
        """Returns when something has changed since it last returned."""
        await self._changed.wait()
        self._changed.clear()

    def _note_change(self) -> None:
        self.zone = zone_of(self.services, self.slices)
        self._changed.set()


async def keep_up(
    api: KubernetesApi, directory: ServiceDirectory, network: PodNetwork, api_server: str
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(directory.follow_services(api), name=f"follow {SERVICES}")
        tasks.create_task(directory.follow_slices(api), name=f"follow {SLICES}")
        tasks.create_task(connect_nodes(api, network), name=f"follow {NODES}")
        while True:
            await directory.change()
            await network.translate(translation_rules(directory.services, directory.slices, api_server))


async def connect_nodes(api: KubernetesApi, network: PodNetwork) -> None:
    """Connects the nodes of the cluster that are on this machine, by the subnets in the API."""
    async for nodes in follow(api, NODES):
        for node in nodes.values():
            named = node["metadata"].get("annotations", {}).get(SUBNET_ANNOTATION)
            if named is None or (subnet := IPv4Network(named)) == network.subnet:
                continue
            try:
                await network.connect(subnet)
            except CommandError as error:  # it has ended meanwhile
                _LOG.info("%s: %s", node["metadata"]["name"], error)
