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
from tests.support.node_agent.container_state import BackOff
from tests.support.node_agent.following import Collection, follow
from tests.support.node_agent.images import Images
from tests.support.node_agent.node import CAPACITY, NodeRegistration
from tests.support.node_agent.node_network import node_network
from tests.support.node_agent.objects import AwayError, once
from tests.support.node_agent.pod_sandbox import NodeServices
from tests.support.node_agent.pod_worker import PodWorker
from tests.support.node_agent.tmpfs import remove_folder

FOLDER_PREFIX = "outrigger-node-"
REMOVAL_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    name: str
    images: Images
    back_off: BackOff


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
            )
            async with registered(NodeRegistration(api, options.name, network.node_address)):
                ready(options.name, folder / "logs")
                async with asyncio.TaskGroup() as tasks:
                    await run_pods(node, options.back_off, tasks)


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
        log.warning("the node stays in the API: %r", error)


async def run_pods(node: NodeServices, back_off: BackOff, tasks: asyncio.TaskGroup) -> None:
    workers: dict[str, PodWorker] = {}
    async for pods in follow(node.api, f"/api/v1/pods?fieldSelector=spec.nodeName={node.name}"):
        for worker in hand_out(node, back_off, pods, workers):
            tasks.create_task(worker.run(), name=worker.name)


def hand_out(
    node: NodeServices, back_off: BackOff, pods: Collection, workers: dict[str, PodWorker]
) -> Iterator[PodWorker]:
    """Passes changes to the workers of the pods, and returns the workers of new pods."""
    present = {pod["metadata"]["uid"]: pod for pod in pods.values()}
    for uid in workers.keys() - present.keys():
        workers.pop(uid).remove()
    for uid, pod in present.items():
        if uid in workers:
            workers[uid].update(pod)
        else:
            workers[uid] = PodWorker(node, back_off, pod)
            yield workers[uid]


@contextmanager
def node_folder() -> Iterator[Path]:
    """A folder that is removed at the end. Those of dead nodes are removed too: their locks are free."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/lock"):
        with suppress(BlockingIOError, FileNotFoundError), left.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(left.parent)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    folder.chmod(0o755)
    with (folder / "unlocked").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "unlocked").rename(folder / "lock")
        try:
            yield folder
        finally:
            remove_folder(folder)
