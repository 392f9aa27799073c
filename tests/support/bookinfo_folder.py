"""Bookinfo from a folder: the demo's mesh of processes on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import yaml

from outrigger.demo.bookinfo import Pod, pod_ports
from outrigger.demo.mesh import CONTROL_PLANE, Mesh
from outrigger.demo.observe import Hop, hops, statuses, until
from outrigger.demo.processes import Processes
from tests.support.kubernetes_api import Resource
from tests.support.manifests import DEPLOY, manifests

DEADLINE_S: Final = 30.0


class BookinfoInFolder:
    """All of Bookinfo, ready."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._added: list[Pod] = []

    @property
    def url(self) -> str:
        """productpage's, for a client outside the mesh."""
        return self._mesh.url

    async def apply(self, *documents: Resource) -> None:
        """Creates them, or changes them."""
        for document in documents:
            name = f"{document['kind']}-{document['metadata']['name']}.yaml"
            draft = self._mesh.config_dir / f"{name}.tmp"
            draft.write_text(yaml.safe_dump(document))
            draft.replace(self._mesh.config_dir / name)

    async def scale_reviews_v1(self, replicas: int) -> None:
        """Returns when the new ones can serve, and the old ones have ended. The demo has two of them from
        the start, which stay."""
        wanted = replicas - 2
        for number, ports in enumerate(pod_ports(max(wanted - len(self._added), 0))):
            pod = Pod(name=f"reviews-v1-added-{number}", service="reviews", version="v1", ports=ports)
            await self._mesh.start_pod(pod)
            await self._mesh.pod_ready(pod)
            self._added.append(pod)
        while len(self._added) > wanted:
            await self._retire(self._added.pop())

    async def complaint(self, kind: str, name: str) -> str:
        """Why a resource is not in force; empty when it is."""
        for status in await statuses(self._mesh.client, self._mesh.debug_port):
            if (status["kind"], status["name"]) == (kind, name):
                return "; ".join(status["reasons"])
        return ""

    async def hops(self, service: str) -> Counter[Hop]:
        """The requests that the sidecars of a service have received."""
        found: Counter[Hop] = Counter()
        for pod in (*self._mesh.pods, *self._added):
            if pod.service == service:
                found += await hops(self._mesh.client, pod.ports.admin, service)
        return found

    async def kill_control_plane(self) -> None:
        await self._mesh.processes.kill(CONTROL_PLANE)

    async def start_control_plane(self) -> None:
        """Returns when it serves every sidecar."""
        await self._mesh.start_control_plane()
        await self._mesh.control_plane_ready()
        await self._mesh.all_connected(deadline_s=DEADLINE_S)

    async def _retire(self, pod: Pod) -> None:
        """Ends it when it gets no more requests, like a pod's preStop hook."""
        (self._mesh.config_dir / f"pod-{pod.name}.yaml").unlink()

        async def is_forgotten() -> bool:
            return not await self._knows(self._mesh.entry, pod) and not await self._is_busy(pod)

        await until(f"nobody calls {pod.name}", is_forgotten, deadline_s=DEADLINE_S)
        await self._mesh.processes.stop(f"{pod.name}-sidecar", pod.name)

    async def _knows(self, caller: Pod, pod: Pod) -> bool:
        return f"127.0.0.1:{pod.ports.inbound}::" in await self._admin(caller, "/clusters")

    async def _is_busy(self, pod: Pod) -> bool:
        stats = await self._admin(pod, "/stats?filter=downstream_rq_active")
        return any(not line.endswith(": 0") for line in stats.splitlines())

    async def _admin(self, pod: Pod, path: str) -> str:
        return (await self._mesh.client.get(f"http://127.0.0.1:{pod.ports.admin}{path}")).text


@asynccontextmanager
async def bookinfo_in_folder(run_dir: Path) -> AsyncIterator[BookinfoInFolder]:
    async with (
        httpx.AsyncClient(trust_env=False, timeout=5) as client,
        Processes(run_dir / "logs") as processes,
    ):
        mesh = Mesh(run_dir, processes, client)
        await mesh.start()
        yield BookinfoInFolder(mesh)


def example(name: str) -> list[Resource]:
    """The documents of one of the example's files."""
    return manifests(DEPLOY / "examples" / "bookinfo" / f"{name}.yaml")
