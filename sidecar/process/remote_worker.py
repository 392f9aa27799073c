"""One worker process, as the supervisor sees it: asks, and waits for the answers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from sidecar.config.cluster import ClusterConfig
from sidecar.config.snapshot import Snapshot
from sidecar.errors import ConfigError, WorkerError
from sidecar.listener.bound_addresses import BindKey
from sidecar.process.channel import Frame, WorkerChannel, encode
from sidecar.process.messages import (
    Ejected,
    GoBack,
    Listening,
    ListeningSocket,
    MethodCall,
    Resources,
    Start,
    Warmed,
    WorkerAnswer,
    WorkerStarted,
)
from sidecar.process.snapshot_changes import SnapshotSender
from sidecar.process.worker import WorkerConfig
from sidecar.upstream.outlier_detection import HostEjection

_LOG = logging.getLogger(__name__)

# A report is a matter of milliseconds; a process that swaps or has no CPU left takes longer.
ANSWER_LIMIT_S: Final = 5.0
# A worker that is stuck would block every update.
APPLY_LIMIT_S: Final = 60.0


class WorkerEndedError(WorkerError):
    """The process has ended before it answered. Another one replaces it."""


class EncodedResources:
    """Encodes each message once, though all workers get it."""

    def __init__(self) -> None:
        self._frames: dict[tuple[int, ...], Frame] = {}

    def frame(self, message: object) -> Frame:
        if not isinstance(message, Resources):
            return encode(message)
        key = tuple(map(id, message.resources.values()))
        if key not in self._frames:
            self._frames[key] = encode(message)
        return self._frames[key]


class RemoteWorker:
    """``warming`` and ``addresses`` are those of the last answer. ``on_ended`` is called once, when the
    process has ended."""

    def __init__(
        self,
        started: WorkerStarted,
        sock: socket.socket,
        config: WorkerConfig,
        *,
        on_warm: Callable[[], None],
        on_ejection: Callable[[RemoteWorker, HostEjection], None],
        on_ended: Callable[[RemoteWorker], None],
    ) -> None:
        self.number: Final = started.number
        self.slot: Final = started.slot
        self.warming: frozenset[str] = frozenset()
        self.addresses: frozenset[BindKey] = frozenset()
        self.ended = False
        self._pid: Final = started.pid
        self._on_warm: Final = on_warm
        self._on_ejection: Final = on_ejection
        self._on_ended: Final = on_ended
        self._channel: Final = WorkerChannel(sock)
        self._awaited: deque[asyncio.Future[Any]] = deque()
        self._snapshots: Final = SnapshotSender()
        self._reading: Final = asyncio.create_task(self._read(), name=f"worker {self.number}")
        self._channel.send(Start(number=started.number, config=config))

    # Configuration.

    async def apply(
        self, snapshot: Snapshot, sockets: Iterable[tuple[ListeningSocket, int]], encoded: EncodedResources
    ) -> Mapping[str, ConfigError]:
        """As `Worker.apply`."""
        self._send_sockets(sockets)
        for message in self._snapshots.apply(snapshot):
            self._channel.send_frame(encoded.frame(message))
        errors: Mapping[str, ConfigError] = await self._done("take its configuration")
        self._snapshots.applied(snapshot)
        return errors

    async def go_back(self) -> None:
        """To the snapshot before the last one, which another worker has refused."""
        self._snapshots.went_back()
        self._channel.send(GoBack())
        await self._done("go back to the configuration before")

    async def look_up(
        self, clusters: Mapping[str, ClusterConfig], encoded: EncodedResources
    ) -> frozenset[str]:
        """As `Worker.resolve_first`."""
        for message in self._snapshots.look_up(clusters):
            self._channel.send_frame(encoded.frame(message))
        waiting: frozenset[str] = await self._done("look up the names of its clusters")
        return waiting

    def _send_sockets(self, sockets: Iterable[tuple[ListeningSocket, int]]) -> None:
        for message, descriptor in sockets:
            self._channel.send(message, descriptor)

    # Everything else.

    async def command(
        self, method: str, *arguments: object, sockets: Iterable[tuple[ListeningSocket, int]] = ()
    ) -> Any:
        """Calls a method of `Worker` that all workers must carry out. Raises its error."""
        self._send_sockets(sockets)
        self._channel.send(MethodCall(method=method, arguments=arguments))
        return await self._done(f"carry out {method}")

    async def _done(self, action: str) -> Any:
        """The answer to the message that was sent last. Kills a process that does not answer: the others have
        carried it out, and its replacement will."""
        try:
            return await self._answer(APPLY_LIMIT_S)
        except TimeoutError:
            _LOG.error("%s does not %s, and is killed", self, action)
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            raise WorkerEndedError(f"{self} did not {action}") from None

    async def report(self, method: str, *arguments: object) -> Any:
        """Calls a method of `Worker` that reports. Raises its error, or `WorkerError` if the process does not
        answer soon."""
        self._channel.send(MethodCall(method=method, arguments=arguments))
        try:
            return await self._answer(ANSWER_LIMIT_S)
        except TimeoutError:
            raise WorkerError(f"{self} has not answered within {ANSWER_LIMIT_S:g} s") from None

    def post(self, method: str, *arguments: object) -> None:
        """As `command`, but does not wait."""
        if not self.ended:
            self._channel.send(MethodCall(method=method, arguments=arguments))
            self._awaited.append(asyncio.get_running_loop().create_future())

    async def _answer(self, limit_s: float) -> Any:
        """The answer to the message that was sent last. Raises `TimeoutError`."""
        if self.ended:
            raise self._has_ended()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited.append(answer)
        await asyncio.wait((answer,), timeout=limit_s)
        if not answer.done():
            raise TimeoutError
        return answer.result()

    async def _read(self) -> None:
        try:
            with suppress(EOFError):
                while True:
                    message, _ = await self._channel.receive()
                    self._take(message)
        finally:
            self.ended = True
            while self._awaited:
                _settle(self._awaited.popleft(), WorkerAnswer(error=self._has_ended()))
            self._on_ended(self)

    def _take(self, message: WorkerAnswer | Ejected | Listening | Warmed) -> None:
        if isinstance(message, WorkerAnswer):
            _settle(self._awaited.popleft(), message)
        elif isinstance(message, Listening):
            self.warming, self.addresses = message.warming, message.addresses
        elif isinstance(message, Ejected):
            self._on_ejection(self, message.ejection)
        else:
            self._on_warm()

    async def close(self) -> None:
        """The process ends: it closes its connections, and writes the rest of its logs."""
        self._channel.close()
        await self._reading

    def _has_ended(self) -> WorkerEndedError:
        return WorkerEndedError(f"{self} has ended")

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self._pid})"


def _settle(awaited: asyncio.Future[Any], answer: WorkerAnswer) -> None:
    """An answer that nobody awaits any more is dropped."""
    if awaited.done():
        return
    if answer.error is not None:
        awaited.set_exception(answer.error)
        awaited.exception()  # it may have no reader left
    else:
        awaited.set_result(answer.value)
