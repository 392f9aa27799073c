"""Runs the pods that are bound to a node of this machine."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.kubernetes_api import KubernetesApi
from tests.support.node_agent.cgroups import Cgroups
from tests.support.node_agent.container_state import BackOff
from tests.support.node_agent.events import EventRecorder
from tests.support.node_agent.following import Collection, follow
from tests.support.node_agent.images import Images
from tests.support.node_agent.kubelet_api.server import kubelet_api
from tests.support.node_agent.kubelet_api.serving_certificate import serving_context
from tests.support.node_agent.network import PodNetwork
from tests.support.node_agent.node import CAPACITY, NodeFacts, NodeRegistration
from tests.support.node_agent.node_network import node_network
from tests.support.node_agent.objects import AwayError, once, patiently
from tests.support.node_agent.pod_sandbox import NodeServices
from tests.support.node_agent.pod_worker import PodWorker
from tests.support.node_agent.tmpfs import remove_folder

FOLDER_PREFIX = "outrigger-node-"
REMOVAL_TIMEOUT_S = 5.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    name: str
    images: Images
    back_off: BackOff
    kubelet_version: str | None  # None: that of the API server


async def run_node(
    api: KubernetesApi, api_server: str, options: NodeOptions, ready: Callable[[str, Path], None]
) -> None:
    """Runs until it is cancelled. `ready` gets the Node's name, and the folder of the containers' logs."""
    with node_folder() as folder:
        async with node_network(api, api_server) as network:
            node = NodeServices(
                name=options.name,
                api=api,
                network=network,
                images=options.images,
                capacity=CAPACITY,
                folder=folder,
                clock=time.time,
                events=EventRecorder(api, options.name, time.time),
                cgroups=Cgroups(folder.name),
            )
            pods = NodePods(node, options.back_off)
            async with registered_node(api, options, network, pods):
                ready(options.name, folder / "logs")
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(node.events.run(), name="events")
                    await pods.follow(tasks)


@asynccontextmanager
async def registered_node(
    api: KubernetesApi, options: NodeOptions, network: PodNetwork, pods: NodePods
) -> AsyncIterator[None]:
    """The Node in the API, and the server that its status names."""
    context = await serving_context(api, options.name, network.node_address)
    server = await patiently(lambda: api.get("/version"))
    async with kubelet_api(network.node_address, context, pods.find) as port:
        facts = NodeFacts(
            name=options.name,
            address=network.node_address,
            subnet=network.subnet,
            kubelet_port=port,
            kubelet_version=options.kubelet_version or server["gitVersion"],
            ready_since_s=time.time(),
        )
        async with registered(NodeRegistration(api, facts)):
            yield


@asynccontextmanager
async def registered(registration: NodeRegistration) -> AsyncIterator[None]:
    await registration.register()
    async with asyncio.TaskGroup() as tasks:
        renewal = tasks.create_task(registration.keep_alive(), name="keep the node alive")
        try:
            yield
        finally:
            renewal.cancel()
            await deregister(registration)


async def deregister(registration: NodeRegistration) -> None:
    try:
        async with asyncio.timeout(REMOVAL_TIMEOUT_S):
            await once(registration.remove)
    except (AwayError, TimeoutError) as error:  # a cluster that has ended before its node, most likely
        _LOG.warning("the node stays in the API: %r", error)


class NodePods:
    """The workers of the pods that are bound to the node."""

    def __init__(self, node: NodeServices, back_off: BackOff) -> None:
        self._node = node
        self._back_off = back_off
        self._workers: dict[str, PodWorker] = {}

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The latest of the name: one that has been deleted may still end."""
        found = [worker for worker in self._workers.values() if worker.name == f"{namespace}/{name}"]
        return found[-1] if found else None

    async def follow(self, tasks: asyncio.TaskGroup) -> None:
        """Runs each pod in a task, until it is cancelled."""
        async for pods in follow(
            self._node.api, f"/api/v1/pods?fieldSelector=spec.nodeName={self._node.name}"
        ):
            for worker in self._hand_out(pods):
                tasks.create_task(worker.run(), name=worker.name)

    def _hand_out(self, pods: Collection) -> Iterator[PodWorker]:
        """Passes changes to the workers of the pods, and returns the workers of new pods."""
        present = {pod["metadata"]["uid"]: pod for pod in pods.values()}
        for uid in self._workers.keys() - present.keys():
            self._workers.pop(uid).remove()
        for uid, pod in present.items():
            if uid in self._workers:
                self._workers[uid].update(pod)
            else:
                self._workers[uid] = PodWorker(self._node, self._back_off, pod)
                yield self._workers[uid]


@contextmanager
def node_folder() -> Iterator[Path]:
    """A folder that is removed at the end. Those of dead nodes are removed too: their locks are free."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/lock"):
        with suppress(BlockingIOError, FileNotFoundError), left.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(left.parent)
            Cgroups(left.parent.name).remove()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    folder.chmod(0o755)
    with (folder / "unlocked").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "unlocked").rename(folder / "lock")
        try:
            yield folder
        finally:
            remove_folder(folder)
            Cgroups(folder.name).remove()
