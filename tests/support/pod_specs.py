"""Pods for a node whose images are `shell`, which runs its first argument, and `python`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource, eventually
from tests.support.node import RunningNode

IMAGES = {"shell": ["sh", "-c"], "python": [sys.executable]}
# The first process of a PID namespace gets SIGTERM only if it handles it; `wait` lets it do so at once.
UNTIL_TERM = "trap 'exit 0' TERM; sleep infinity & wait"


def shell(name: str, script: str, **fields: Any) -> Resource:
    return {"name": name, "image": "shell", "args": [script], **fields}


def pod(name: str, *containers: Resource, **spec: Any) -> Resource:
    """Its grace period is short, so that a test does not wait long for a pod that ignores SIGTERM."""
    spec = {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def deployment(name: str, replicas: int, *containers: Resource) -> Resource:
    template = pod(name, *containers)
    selector = {"matchLabels": template["metadata"]["labels"]}
    del template["metadata"]["name"]
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


def web_server(**fields: Any) -> Resource:
    """Answers on port 8080 from when it is ready."""
    ready = {"httpGet": {"port": "http", "path": "/etc/hostname"}, "periodSeconds": 1}
    ports = [{"name": "http", "containerPort": 8080}]
    args = ["-m", "http.server", "8080"]
    return {"name": "web", "image": "python", "args": args, "ports": ports, "readinessProbe": ready, **fields}


class Pods:
    """The pods of one namespace, as the API has them."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self.path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, pod: Resource) -> None:
        await self._api.create(self.path, pod)

    async def get(self, name: str) -> Resource:
        return await self._api.get(f"{self.path}/{name}")

    async def delete(self, name: str) -> None:
        await self._api.delete(f"{self.path}/{name}")

    async def all(self) -> list[Resource]:
        found: list[Resource] = (await self._api.get(self.path))["items"]
        return found

    async def in_phase(self, name: str, phase: str) -> Resource:
        async def look() -> Resource | None:
            found = await self.get(name)
            return found if found["status"]["phase"] == phase else None

        return await eventually(look, f"pod {name} is {phase}")

    async def with_condition(self, name: str, kind: str, status: str = "True") -> Resource:
        async def look() -> Resource | None:
            found = await self.get(name)
            return found if condition(found, kind).get("status") == status else None

        return await eventually(look, f"pod {name} has {kind}={status}")

    async def gone(self, name: str) -> None:
        async def look() -> bool:
            try:
                await self.get(name)
            except KubernetesError as error:
                return error.status == 404
            return False

        await eventually(look, f"pod {name} is gone")


async def printed(node: RunningNode, pods: Pods, pod: str, container: str, text: str) -> list[str]:
    """The container's lines, once the text is among them."""
    namespace = pods.path.split("/")[4]

    async def look() -> list[str]:
        output = node.output(namespace, pod, container)
        return output.splitlines() if text in output else []

    return await eventually(look, f"{pod}/{container} prints {text!r}")


def condition(resource: Resource, kind: str) -> Resource:
    """Empty where it has none of the kind."""
    conditions: list[Resource] = resource["status"].get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def container_status(pod: Resource, name: str) -> Resource:
    """Empty if it has none yet."""
    statuses = [*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())]
    return next((each for each in statuses if each["name"] == name), {})


def processes_of(pod: str) -> list[int]:
    """The processes of the pod's containers, as the machine numbers them: those that know its host name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if f"HOSTNAME={pod}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def signal_first_process(pod: str, number: int) -> None:
    """To the first process of the pod's only container. It may have begun a moment ago: until it has become
    its own program, its environment is another one."""
    give_up_at_s = time.monotonic() + 10
    while not (first := [pid for pid in processes_of(pod) if number_in_container(pid) == 1]):
        assert time.monotonic() < give_up_at_s, f"{pod} has no process"
        time.sleep(0.02)
    os.kill(first[0], number)


def catches(pod: str, number: int) -> bool:
    """Whether the first process has a handler for the signal already; without one it would not notice it."""
    first = [pid for pid in processes_of(pod) if number_in_container(pid) == 1]
    return any(int(_status(pid, "SigCgt"), 16) >> (number - 1) & 1 for pid in first)


def number_in_container(pid: int) -> int:
    return int(_status(pid, "NSpid").split()[-1])


def _status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{field}:")).partition(":")[2]
