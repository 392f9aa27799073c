"""Runs one pod, from its binding to the node until its deletion from the API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from tests.support.kubernetes_api import STRATEGIC_MERGE_PATCH, KubernetesError, Resource
from tests.support.node_agent.container_runner import ContainerRunner
from tests.support.node_agent.container_state import (
    CREATING,
    BackOff,
    Board,
    ContainerState,
    Ending,
    Terminated,
    Waiting,
)
from tests.support.node_agent.downward import DownwardError
from tests.support.node_agent.lifecycle import States, decide, has_ended, has_finished, is_done
from tests.support.node_agent.objects import MissingError, patiently
from tests.support.node_agent.plan import PodPlan, plan_of, title_of
from tests.support.node_agent.pod_sandbox import NodeServices, PodSandbox
from tests.support.node_agent.status import PodFacts, differs, states_told, status_of
from tests.support.node_agent.volumes import UnsupportedError

REFRESH_EVERY_S = 5.0  # how soon changes of ConfigMaps, Secrets and labels are in the volumes' files
PREPARE_AGAIN_AFTER_S = 1.0
TERMINAL_PHASES = ("Succeeded", "Failed")

_LOG = logging.getLogger(__name__)


class PodWorker:
    def __init__(self, node: NodeServices, back_off: BackOff, pod: Resource) -> None:
        self._node = node
        self._back_off = back_off
        self._pod = pod
        self._plan = plan_of(pod)
        metadata, spec = pod["metadata"], pod["spec"]
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._grace_s: float = spec.get("terminationGracePeriodSeconds", 30)
        self._sandbox = PodSandbox(node, pod)
        self.name = self._sandbox.name
        told = states_told(self._plan, pod.get("status", {}))
        states = {each.name: told.get(each.name, ContainerState()) for each in self._plan.containers}
        self._board = Board(states, self._look_again)
        self._events = node.events.of(pod)
        self._backing_off: set[str] = set()  # the runs whose back-off has an Event
        self._runners = {
            container["name"]: ContainerRunner(
                container,
                self._sandbox,
                self._board,
                self._events.container(container["name"]),
                node.clock,
                self._grace_s,
            )
            for container in (*spec.get("initContainers", ()), *spec["containers"])
        }
        self._started_at_s = node.clock()
        self._end_by_s: float | None = None
        self._failure: tuple[str, str] | None = None
        self._prepared = self._ended = self._removed = False
        self._changed = asyncio.Event()
        self._unpublished = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    @property
    def plan(self) -> PodPlan:
        return self._plan

    @property
    def states(self) -> States:
        """By the container's name."""
        return self._board.states

    @property
    def runners(self) -> Mapping[str, ContainerRunner]:
        """By the container's name."""
        return self._runners

    @property
    def sandbox(self) -> PodSandbox:
        return self._sandbox

    def update(self, pod: Resource) -> None:
        """The Pod as the API has it, or had it a moment ago."""
        if version(pod) > version(self._pod):
            self._pod = pod
            self._look_again()

    def remove(self) -> None:
        """The API has it no more."""
        self._removed = True
        self._look_again()

    async def run(self) -> None:
        """Returns when the pod has been deleted. When cancelled it kills the containers at once."""
        try:
            if self._pod.get("status", {}).get("phase") not in TERMINAL_PHASES:
                await self._live()
        finally:
            await self._sandbox.remove()
        await self._until_deleted()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as self._tasks:
            background = [
                self._spawn(self._prepare(), "volumes"),
                self._spawn(self._publish_changes(), "status"),
            ]
            await self._run_containers()
            for task in background:
                task.cancel()
        await patiently(self._publish)

    async def _run_containers(self) -> None:
        """The pod's story: decide, do it, wait until something has changed."""
        while True:
            self._changed.clear()
            now_s = self._node.clock()
            self._end_if_due(now_s)
            if self._end_by_s is not None and has_ended(self._board.states):
                self._ended = True
                return
            await self._wait_until(min(self._act(now_s), self._deadline_s()))

    def _act(self, now_s: float) -> float:
        """Returns when to look again."""
        if not self._prepared:
            return float("inf")
        states = self._board.states
        self._tell_back_offs()
        decision = decide(self._plan, states, self._end_by_s, now_s)
        for name in decision.start:
            self._board.put(name, states[name].starting(self._back_off))
            self._spawn(self._runners[name].run(self._pod), name)
        for end in decision.pre_stop:
            self._board.running(end.name, ending=Ending.PRE_STOP)
            self._spawn(self._runners[end.name].pre_stop(end), f"preStop of {end.name}")
        for end in decision.stop:
            self._board.running(end.name, ending=Ending.SIGNALLED)
            self._spawn(self._runners[end.name].stop(end), f"stop of {end.name}")
        return float("inf") if decision.look_again_at_s is None else decision.look_again_at_s

    def _tell_back_offs(self) -> None:
        for each in self._plan.containers:
            state = self._board.states[each.name]
            if not isinstance(state.now, Terminated) or is_done(each, state) or not state.back_off_s:
                continue
            if state.now.id not in self._backing_off and self._end_by_s is None:
                self._backing_off.add(state.now.id)
                message = f"Back-off restarting failed container {each.name} in pod {title_of(self._pod)}"
                self._events.container(each.name).warning("BackOff", message)

    def _end_if_due(self, now_s: float) -> None:
        """The pod is to end when it is deleted, when it has done its work, and at its deadline."""
        if self._end_by_s is not None:
            return
        metadata = self._pod["metadata"]
        if now_s >= self._deadline_s():
            self._failure = (
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            )
        elif not (self._removed or is_deleted(self._pod) or has_finished(self._plan, self._board.states)):
            return
        self._end_by_s = now_s + metadata.get("deletionGracePeriodSeconds", self._grace_s)

    def _deadline_s(self) -> float:
        """Seconds since the epoch; never, once the pod is to end anyway."""
        allowed_s = self._pod["spec"].get("activeDeadlineSeconds")
        return float("inf") if allowed_s is None or self._end_by_s else self._started_at_s + allowed_s

    async def _prepare(self) -> None:
        """Prepares the pod's resources, and keeps its volumes up to date."""
        while True:
            try:
                await (self._sandbox.refresh if self._prepared else self._sandbox.prepare)(self._pod)
            except (MissingError, DownwardError, UnsupportedError, KubernetesError) as error:
                self._note_problem(str(error))
            else:
                if not self._prepared:
                    self._prepared = True
                    self._look_again()
            await asyncio.sleep(REFRESH_EVERY_S if self._prepared else PREPARE_AGAIN_AFTER_S)

    def _note_problem(self, message: str) -> None:
        _LOG.warning("%s: %s", self.name, message)
        if not self._prepared:
            self._events.warning("FailedMount", message)
            for name in self._board.states:
                self._board.now(name, Waiting(reason=CREATING.reason, message=message))

    async def _publish_changes(self) -> None:
        while True:
            self._unpublished.clear()
            await patiently(self._publish)
            await self._unpublished.wait()

    async def _publish(self) -> None:
        """Writes the status as it is now, if the API has another."""
        facts = PodFacts(
            started_at_s=self._started_at_s,
            host_address=self._node.network.node_address,
            address=self._sandbox.address,
            terminal=self._ended,
            failure=self._failure,
        )
        status = status_of(self._pod, self._plan, self._board.states, facts, self._node.clock())
        if self._removed or not differs(status, self._pod.get("status", {})):
            return
        for addresses in status.keys() & {"podIPs", "hostIPs"}:  # which would be merged with former ones
            status[addresses] = [{"$patch": "replace"}, *status[addresses]]
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        with suppress_gone():
            self.update(await self._node.api.patch(f"{self._path}/status", body, STRATEGIC_MERGE_PATCH))

    async def _until_deleted(self) -> None:
        """Its processes have ended: the API may delete it on request."""
        while not self._removed:
            self._changed.clear()
            if is_deleted(self._pod):
                await patiently(self._delete)
            await self._changed.wait()

    async def _delete(self) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._pod["metadata"]["uid"]}}
        with suppress_gone():
            await self._node.api.delete(self._path, body)

    async def _wait_until(self, at_s: float) -> None:
        """Or until something has changed."""
        delay_s = max(at_s - self._node.clock(), 0) if at_s < float("inf") else None
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._changed.wait()

    def _look_again(self) -> None:
        self._changed.set()
        self._unpublished.set()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        return self._tasks.create_task(work, name=f"{self.name}: {what}")


@contextmanager
def suppress_gone() -> Iterator[None]:
    """The pod was deleted, or another one has its name: the watch will report it."""
    try:
        yield
    except KubernetesError as error:
        if error.status not in {404, 409}:
            raise


def is_deleted(pod: Resource) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def version(pod: Resource) -> int:
    return int(pod["metadata"]["resourceVersion"])
