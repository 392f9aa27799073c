"""Runs a container from its start to its end, with its hooks and probes."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence

from tests.support.kubernetes_api import KubernetesError, Resource
from tests.support.node_agent import container as containers
from tests.support.node_agent.actions import ActionError, act
from tests.support.node_agent.cgroups import Group
from tests.support.node_agent.container import Container, StartError
from tests.support.node_agent.container_state import (
    Board,
    Ending,
    Running,
    Terminated,
    Waiting,
)
from tests.support.node_agent.downward import DownwardError
from tests.support.node_agent.events import PodEvents
from tests.support.node_agent.image_pull import ImagePull
from tests.support.node_agent.images import Image, UnknownImageError
from tests.support.node_agent.lifecycle import Stop
from tests.support.node_agent.objects import MissingError
from tests.support.node_agent.pod_sandbox import PodSandbox
from tests.support.node_agent.privileges import NonRootError
from tests.support.node_agent.probes import Probe, verdicts
from tests.support.node_agent.volumes import UnsupportedError

RETRY_AFTER_S = 1.0
TOLD = "told"
COULD_NOT_START = 128  # the exit code of a container that had no process

_LOG = logging.getLogger(__name__)


class ContainerRunner:
    """One container of a pod; it runs many times, one after another."""

    def __init__(
        self,
        container: Resource,
        sandbox: PodSandbox,
        board: Board,
        events: PodEvents,
        clock: Callable[[], float],
        grace_s: float,
    ) -> None:
        self.name: str = container["name"]
        self._title = f"{sandbox.name}/{self.name}"
        self._container = container
        self._sandbox = sandbox
        self._board = board
        self._events = events
        self._clock = clock
        self._grace_s = grace_s
        self._process: Container | None = None
        self._log_starts: list[int] = []
        self._image_pull = ImagePull()
        self._stopping = ""

    @property
    def process(self) -> Container | None:
        """None where it has not run yet; it may have ended."""
        return self._process

    @property
    def log_starts(self) -> Sequence[int]:
        """Where in its log the output of each of its runs begins, in bytes."""
        return self._log_starts

    async def run(self, pod: Resource) -> None:
        """Once, until it has ended: by itself, or by `stop`, or because we are cancelled."""
        began_at_s = self._clock()
        identity = f"process://{uuid.uuid4().hex}"
        self._stopping = ""
        try:
            spec = await self._sandbox.container_spec(pod, self._container, self._pulled_image())
            log_start = spec.log.stat().st_size if spec.log.exists() else 0
            process = await containers.start(spec)
        except StartError as error:
            self._events.warning("Failed", f"Error: {error}")
            self._log_starts.append(log_start)
            self._ended(identity, began_at_s, COULD_NOT_START, "StartError", str(error))
        except UnknownImageError as error:
            self._wait_for_image(error)
        except (NonRootError, MissingError, DownwardError, UnsupportedError, KubernetesError) as error:
            self._events.warning("Failed", f"Error: {error}")
            self._wait("CreateContainerConfigError", str(error), began_at_s + RETRY_AFTER_S)
        else:
            self._process = process
            self._log_starts.append(log_start)
            self._events.normal("Created", "Container created")
            self._events.normal("Started", "Container started")
            self._board.now(self.name, Running(id=identity, since_s=began_at_s))
            code = await self._attended(process)
            reason = reason_of(code, spec.group)
            spec.group.remove()
            self._ended(identity, began_at_s, code, reason)

    def _pulled_image(self) -> Image:
        """Raises UnknownImageError."""
        image = self._sandbox.image(self._container)
        name = self._container["image"]
        self._events.normal("Pulled", f'Container image "{name}" already present on machine')
        return image

    def _wait_for_image(self, error: UnknownImageError) -> None:
        """An attempt has failed; between attempts the container only waits for the next."""
        attempt = self._image_pull.attempt(self._container["image"], str(error), self._clock())
        for kind, reason, message in attempt.events:
            (self._events.warning if kind == "Warning" else self._events.normal)(reason, message)
        self._wait(attempt.reason, attempt.message, attempt.retry_at_s)

    async def pre_stop(self, end: Stop) -> None:
        """Runs the hook, and reports that it has run, whether it succeeded or not."""
        hook = self._container["lifecycle"]["preStop"]
        self._tell_stop()
        try:
            await self._act(hook, end.grace_s)
        except ActionError as error:
            self._events.warning("FailedPreStopHook", "PreStopHook failed")
            _LOG.warning("%s: preStop: %s", self._title, error)
        self._board.running(self.name, ending=Ending.PRE_STOPPED)

    async def stop(self, end: Stop) -> None:
        """Returns when it has ended."""
        self._tell_stop()
        if self._process is not None:
            await self._process.stop(end.grace_s)

    def _tell_stop(self) -> None:
        """Once in a run, before its preStop hook."""
        if self._stopping != TOLD:
            self._events.normal("Killing", self._stopping or f"Stopping container {self.name}")
            self._stopping = TOLD

    async def _attended(self, process: Container) -> int:
        async with asyncio.TaskGroup() as tasks:
            attendance = tasks.create_task(self._attend(), name=f"hooks and probes of {self.name}")
            try:
                return await process.wait()
            finally:
                attendance.cancel()
                await process.kill()

    async def _attend(self) -> None:
        if hook := self._container.get("lifecycle", {}).get("postStart"):
            try:
                await self._act(hook, None)
            except ActionError as error:
                self._events.warning("FailedPostStartHook", "PostStartHook failed")
                _LOG.warning("%s: postStart: %s", self._title, error)
                self._board.running(self.name, post_started=True)
                self._condemn("FailedPostStartHook", self._grace_s)
                return
        self._board.running(self.name, post_started=True)
        if "startupProbe" in self._container and not await self._has_started():
            return
        self._board.running(self.name, started=True, ready="readinessProbe" not in self._container)
        async with asyncio.TaskGroup() as probes:
            if "readinessProbe" in self._container:
                probes.create_task(self._follow_readiness(), name=f"readiness of {self.name}")
            if "livenessProbe" in self._container:
                probes.create_task(self._follow_liveness(), name=f"liveness of {self.name}")

    async def _has_started(self) -> bool:
        probe = Probe.of(self._container["startupProbe"])
        async for success, _ in verdicts(probe, lambda: self._examine("Startup", probe)):
            if not success:
                self._condemn(self._restart_after("startup"), self._grace_of(probe))
            return success
        raise AssertionError("probes go on for ever")

    async def _follow_readiness(self) -> None:
        probe = Probe.of(self._container["readinessProbe"])
        async for success, words in verdicts(probe, lambda: self._examine("Readiness", probe)):
            _LOG.info("%s: %s", self._title, "ready" if success else f"not ready: {words}")
            self._board.running(self.name, ready=success)

    async def _follow_liveness(self) -> None:
        probe = Probe.of(self._container["livenessProbe"])
        async for success, _ in verdicts(probe, lambda: self._examine("Liveness", probe)):
            if not success:
                self._condemn(self._restart_after("liveness"), self._grace_of(probe))

    def _restart_after(self, probe: str) -> str:
        return f"Container {self.name} failed {probe} probe, will be restarted"

    async def _examine(self, kind: str, probe: Probe) -> None:
        """Raises ActionError."""
        try:
            await self._act(probe.action, probe.timeout_s)
        except ActionError as error:
            self._events.warning("Unhealthy", f"{kind} probe failed: {error}")
            raise

    async def _act(self, action: Resource, timeout_s: float | None) -> None:
        assert self._process is not None
        assert self._sandbox.address is not None
        await act(action, self._container, self._process, self._sandbox.address, timeout_s)

    def _grace_of(self, probe: Probe) -> float:
        return self._grace_s if probe.grace_s is None else probe.grace_s

    def _condemn(self, why: str, grace_s: float) -> None:
        _LOG.warning("%s is to end: %s", self._title, why)
        self._stopping = why
        self._board.running(self.name, end_by_s=self._clock() + grace_s)

    def _wait(self, reason: str, message: str, retry_at_s: float) -> None:
        self._board.now(self.name, Waiting(reason=reason, message=message, retry_at_s=retry_at_s))

    def _ended(self, identity: str, began_at_s: float, code: int, reason: str, message: str = "") -> None:
        _LOG.info("%s: %s, exit code %d %s", self._title, reason, code, message)
        ended = Terminated(
            id=identity,
            exit_code=code,
            reason=reason,
            started_at_s=began_at_s,
            finished_at_s=self._clock(),
            message=message,
        )
        self._board.now(self.name, ended)


def reason_of(code: int, group: Group) -> str:
    if code == 0:
        return "Completed"
    return "OOMKilled" if group.has_killed() else "Error"
