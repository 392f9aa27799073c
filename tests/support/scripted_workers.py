"""`RemoteWorkers` whose worker processes a test plays: it decides each answer, and records each message."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sidecar.errors import ConfigError
from sidecar.process.channel import WorkerChannel
from sidecar.process.messages import (
    Apply,
    Listening,
    ListeningSocket,
    MethodCall,
    Resources,
    Start,
    WorkerAnswer,
    WorkerStarted,
)
from sidecar.process.remote_workers import RemoteWorkers
from sidecar.process.snapshot_changes import SnapshotReceiver
from sidecar.process.worker import WorkerConfig

DEADLINE_S = 5.0


class ScriptedWorker:
    """``refuses`` or ``errors`` is the answer to every `Apply`, ``answers`` those to calls, by method. While
    `holds_back` is not set, it does not answer. It says that it uses all sockets that it gets."""

    def __init__(self, sock: socket.socket) -> None:
        self.received: list[Any] = []
        self.snapshots = SnapshotReceiver()
        self.refuses: ConfigError | None = None
        self.errors: dict[str, ConfigError] = {}
        self.answers: dict[str, Any] = {}
        self.holds_back = asyncio.Event()
        self.holds_back.set()
        self._channel = WorkerChannel(sock)
        self._task = asyncio.create_task(self._serve())

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    async def _serve(self) -> None:
        addresses: set[Any] = set()
        while True:
            message, descriptor = await self._channel.receive()
            self.received.append(message)
            if isinstance(message, ListeningSocket):
                if message.error is None:
                    addresses.add(message.key)
                    os.close(descriptor)
            elif isinstance(message, Resources):
                self.snapshots.add(message)
            elif not isinstance(message, Start):
                await self.holds_back.wait()
                self._channel.send(Listening(warming=frozenset(), addresses=frozenset(addresses)))
                self._channel.send(self._answer(message))

    def _answer(self, message: Any) -> WorkerAnswer:
        if isinstance(message, MethodCall):
            return WorkerAnswer(value=self.answers.get(message.method, {}))
        if not isinstance(message, Apply):
            return WorkerAnswer(value={})
        if self.refuses is not None:
            return WorkerAnswer(error=self.refuses)
        self.snapshots.applied(message, self.snapshots.snapshot(message))
        return WorkerAnswer(value=self.errors)

    def send(self, message: object) -> None:
        self._channel.send(message)

    async def die(self) -> None:
        self._task.cancel()
        self._channel.close()
        await asyncio.gather(self._task, return_exceptions=True)


class ScriptedMaster:
    def __init__(self, control: socket.socket) -> None:
        self._control = WorkerChannel(control)
        self._number = 0
        self.workers: list[ScriptedWorker] = []

    def start(self, slot: int) -> ScriptedWorker:
        ours, theirs = socket.socketpair()
        self._number += 1
        # A pid that no process has: a worker that does not answer is killed.
        self._control.send(WorkerStarted(number=self._number, slot=slot, pid=2**22 + 1), theirs.fileno())
        theirs.close()
        self.workers.append(ScriptedWorker(ours))
        return self.workers[-1]

    async def close(self) -> None:
        self._control.close()
        for worker in self.workers:
            await worker.die()


@asynccontextmanager
async def scripted(
    count: int = 2, on_warm: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[RemoteWorkers, ScriptedMaster]]:
    ours, theirs = socket.socketpair()
    workers = RemoteWorkers(ours, WorkerConfig(), count, on_warm=on_warm)
    master = ScriptedMaster(theirs)
    run = asyncio.create_task(workers.run())
    for slot in range(count):
        master.start(slot)
    try:
        yield workers, master
    finally:
        await workers.close()
        await master.close()
        await asyncio.gather(run, return_exceptions=True)
