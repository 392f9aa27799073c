"""Events about pods, in the kubelet's words: what `kubectl describe pod` shows."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.kubernetes_api import KubernetesApi, KubernetesError, Resource
from tests.support.node_agent.objects import patiently
from tests.support.node_agent.status import timestamp

LIMIT_OF_A_POD = 25  # as the kubelet's own limit: a probe may fail every second for hours
COMPONENT = "kubelet"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Happening:
    """Two that are equal are one Event, with a count. `field` is the `fieldPath` of a container."""

    pod: tuple[str, str, str]  # namespace, name, uid
    kind: str
    reason: str
    message: str
    field: str


@dataclass(slots=True)
class Written:
    """The Event of a happening in the API."""

    path: str
    count: int


class EventRecorder:
    """Never keeps its callers waiting: `run` writes the Events, in their order, while it is not cancelled."""

    def __init__(self, api: KubernetesApi, node: str, clock: Callable[[], float]) -> None:
        self._api = api
        self._node = node
        self._clock = clock
        self._told: Counter[tuple[str, str, str]] = Counter()
        self._pending: dict[Happening, list[float]] = {}
        self._written: dict[Happening, Written] = {}
        self._some = asyncio.Event()

    def of(self, pod: Resource) -> PodEvents:
        return PodEvents(self, pod)

    def record(self, happening: Happening) -> None:
        self._told[happening.pod] += 1
        if self._told[happening.pod] <= LIMIT_OF_A_POD:
            self._pending.setdefault(happening, []).append(self._clock())
            self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._pending:
                happening = next(iter(self._pending))
                await self._write(happening, self._pending.pop(happening))

    async def _write(self, happening: Happening, times_s: list[float]) -> None:
        try:
            if (written := self._written.get(happening)) is None:
                event = self._event(happening, times_s)
                path = f"/api/v1/namespaces/{happening.pod[0]}/events"
                await patiently(lambda: self._api.create(path, event))
                name = event["metadata"]["name"]
                self._written[happening] = Written(f"{path}/{name}", len(times_s))
            else:
                written.count += len(times_s)
                change = {"count": written.count, "lastTimestamp": timestamp(times_s[-1])}
                await patiently(lambda: self._api.patch(written.path, change))
        except KubernetesError as error:  # the namespace ends, most likely
            _LOG.info("an Event of %s/%s is lost: %s", *happening.pod[:2], error)

    def _event(self, happening: Happening, times_s: list[float]) -> Resource:
        namespace, name, uid = happening.pod
        involved = {"kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid}
        if happening.field:
            involved["fieldPath"] = happening.field
        return {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": involved,
            "type": happening.kind,
            "reason": happening.reason,
            "message": happening.message,
            "count": len(times_s),
            "firstTimestamp": timestamp(times_s[0]),
            "lastTimestamp": timestamp(times_s[-1]),
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
        }


class PodEvents:
    """Those of one pod, or with `container` of one of its containers."""

    def __init__(self, recorder: EventRecorder, pod: Resource, field: str = "") -> None:
        self._recorder = recorder
        self._pod = pod
        self._field = field

    def container(self, name: str) -> PodEvents:
        initial = {each["name"] for each in self._pod["spec"].get("initContainers", ())}
        kind = "initContainers" if name in initial else "containers"
        return PodEvents(self._recorder, self._pod, f"spec.{kind}{{{name}}}")

    def normal(self, reason: str, message: str) -> None:
        self._record("Normal", reason, message)

    def warning(self, reason: str, message: str) -> None:
        self._record("Warning", reason, message)

    def _record(self, kind: str, reason: str, message: str) -> None:
        metadata = self._pod["metadata"]
        pod = metadata["namespace"], metadata["name"], metadata["uid"]
        self._recorder.record(Happening(pod, kind, reason, message[:1000], self._field))
