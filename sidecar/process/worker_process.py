"""A worker in a process of its own, at the other end of a channel. It imports no xDS, gRPC or protobuf."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection
from typing import Any

from sidecar.config.listener import Listener
from sidecar.errors import ConfigError, SidecarError, WorkerError
from sidecar.listener.bound_addresses import BindKey, bind_key
from sidecar.listener.faults import quiet_peer_faults
from sidecar.process.channel import WorkerChannel
from sidecar.process.messages import (
    Apply,
    Ejected,
    GoBack,
    Listening,
    ListeningSocket,
    LookUp,
    MethodCall,
    Resources,
    Start,
    Warmed,
    WorkerAnswer,
)
from sidecar.process.snapshot_changes import SnapshotReceiver
from sidecar.process.worker import Worker
from sidecar.timers import Timers
from sidecar.upstream.shared_counters import WorkerCounters

_LOG = logging.getLogger(__name__)


async def serve_worker(sock: socket.socket, counters: WorkerCounters) -> None:
    """Serves until the supervisor closes the channel, or its process has ended."""
    quiet_peer_faults(asyncio.get_running_loop())
    channel = WorkerChannel(sock)
    timers = Timers(asyncio.get_running_loop())
    try:
        start, _ = await channel.receive()
        sockets = PassedSockets()
        worker = Worker(
            start.config,
            timers=timers,
            on_warm=lambda: channel.send(Warmed()),
            open_socket=sockets.take,
            counters=counters,
            on_ejection=lambda ejection: channel.send(Ejected(ejection=ejection)),
        )
        try:
            await _Server(start, worker, sockets, channel).run()
        finally:
            await worker.close()
    except EOFError:
        pass
    finally:
        timers.close()
        channel.close()


class PassedSockets:
    """The listening sockets that the supervisor has sent, and that no listener uses yet."""

    def __init__(self) -> None:
        self._sockets: dict[BindKey, socket.socket] = {}
        self._errors: dict[BindKey, ConfigError] = {}

    def add(self, message: ListeningSocket, descriptor: int) -> None:
        if message.error is not None:
            self._errors[message.key] = message.error
        else:
            self._sockets[message.key] = socket.socket(fileno=descriptor)

    def take(self, listener: Listener) -> socket.socket:
        """An `OpenSocket`."""
        key = bind_key(listener)
        if key in self._errors:
            raise self._errors[key]
        sock = self._sockets.pop(key, None)
        if sock is None:
            raise ConfigError("address", f"listener {listener.name!r}: its socket is missing")
        sock.setblocking(False)
        return sock

    def keep_only(self, keys: Collection[BindKey]) -> None:
        """Closes all others, and forgets the errors."""
        self._errors.clear()
        for key in self._sockets.keys() - keys:
            self._sockets.pop(key).close()


class _Server:
    def __init__(self, start: Start, worker: Worker, sockets: PassedSockets, channel: WorkerChannel) -> None:
        self._number = start.number
        self._worker = worker
        self._sockets = sockets
        self._channel = channel
        self._snapshots = SnapshotReceiver()
        self._listening = Listening(warming=frozenset(), addresses=frozenset())

    async def run(self) -> None:
        """Raises `EOFError` at the end of the channel."""
        while True:
            message, descriptor = await self._channel.receive()
            if isinstance(message, Resources):
                self._snapshots.add(message)
            elif isinstance(message, ListeningSocket):
                self._sockets.add(message, descriptor)
            else:
                answer = await self._answer(message)
                self._report_listening()
                self._channel.send(answer)

    async def _answer(self, message: Apply | GoBack | LookUp | MethodCall) -> WorkerAnswer:
        try:
            return WorkerAnswer(value=await self._handle(message))
        except SidecarError as error:
            return WorkerAnswer(error=error)
        except Exception as error:
            _LOG.exception("worker %d: %s has failed", self._number, type(message).__name__)
            return WorkerAnswer(error=WorkerError(f"worker {self._number}: {type(error).__name__}: {error}"))

    async def _handle(self, message: Apply | GoBack | LookUp | MethodCall) -> Any:
        worker, snapshots = self._worker, self._snapshots
        if isinstance(message, Apply):
            snapshot = snapshots.snapshot(message)
            errors = await worker.apply(snapshot)
            snapshots.applied(message, snapshot)
            return errors
        if isinstance(message, GoBack):
            return await worker.apply(snapshots.go_back())
        if isinstance(message, LookUp):
            return frozenset(await worker.resolve_first(snapshots.clusters(message)))
        return await getattr(worker, message.method)(*message.arguments)

    def _report_listening(self) -> None:
        now = Listening(warming=self._worker.warming_listeners, addresses=self._worker.bind_keys)
        self._sockets.keep_only(now.addresses)
        if now != self._listening:
            self._listening = now
            self._channel.send(now)
