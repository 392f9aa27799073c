"""A worker in a separate process, controlled over a socket; run as ``python -m tests.support.worker_process
FD``.

It receives a `WorkerConfig`, then a `Snapshot` and an `SvidPem`, each of which it answers with the errors by
listener. After that it answers every message with a `Report`, until the channel is closed.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sidecar.listener.manager import ListenerStatus
from sidecar.observability.report import StatsReport
from sidecar.process.pickling import dumps
from sidecar.process.worker import Worker
from sidecar.timers import Timers
from sidecar.upstream.status import ClusterStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """``imported``: the top-level packages that the process has loaded."""

    listeners: list[ListenerStatus]
    clusters: list[ClusterStatus]
    stats: StatsReport
    imported: frozenset[str]


class Channel:
    """Pickles over a stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = sock.makefile("rb")

    def send(self, value: object) -> None:
        self._sock.sendall(dumps(value))

    def receive(self) -> Any:
        """Raises `EOFError` at the end."""
        return pickle.load(self._reader)

    def close(self) -> None:
        self._reader.close()
        self._sock.close()


async def serve(channel: Channel) -> None:
    timers = Timers(asyncio.get_running_loop())

    async def receive() -> Any:
        return await asyncio.to_thread(channel.receive)

    worker = Worker(await receive(), timers=timers, on_warm=lambda: None)
    snapshot = await receive()
    channel.send(await worker.apply(snapshot))
    channel.send(await worker.use_svid(await receive()))
    with suppress(EOFError):
        while await receive():
            channel.send(
                Report(
                    listeners=await worker.listeners(),
                    clusters=await worker.clusters(list(snapshot.clusters)),
                    stats=await worker.stats(),
                    imported=frozenset(name.partition(".")[0] for name in sys.modules),
                )
            )
    await worker.close()
    timers.close()
    channel.close()


if __name__ == "__main__":
    # By its importable name, so that the other side can unpickle a `Report`.
    from tests.support import worker_process

    asyncio.run(worker_process.serve(worker_process.Channel(socket.socket(fileno=int(sys.argv[1])))))
