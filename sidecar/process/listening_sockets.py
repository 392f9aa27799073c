"""The listening sockets of all workers. The supervisor binds them, and keeps each open as long as a worker
uses it: when a worker dies, the connections in the queue of its socket wait for the worker that replaces it.

Each worker has a socket of its own for each address (SO_REUSEPORT): the kernel spreads connections over them.
From one shared socket, the worker that wakes up first takes nearly all of them (`docs/workers.md`).
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from sidecar.config.listener import Listener, TrafficDirection
from sidecar.errors import ConfigError
from sidecar.listener.bound_addresses import BindKey, bind_key
from sidecar.listener.listen_socket import bind_for_each
from sidecar.process.messages import ListeningSocket


class ListeningSockets:
    def __init__(self, workers: int) -> None:
        self._workers: Final = workers
        self._sockets: dict[BindKey, list[socket.socket]] = {}
        self._errors: dict[BindKey, ConfigError] = {}
        self._stopped: set[TrafficDirection] = set()

    def open(self, listeners: Iterable[Listener]) -> None:
        """Binds the addresses that are not bound yet. Those that cannot be bound are tried again the next
        time."""
        self._errors.clear()
        for listener in listeners:
            key = bind_key(listener)
            if not listener.bind_to_port or listener.direction in self._stopped or key in self._sockets:
                continue
            try:
                self._sockets[key] = bind_for_each(listener, self._workers)
            except ConfigError as error:
                self._errors[key] = error

    def for_worker(self, slot: int, held: Collection[BindKey]) -> Iterator[tuple[ListeningSocket, int]]:
        """The sockets that a worker does not hold yet, and the reasons for those that are missing."""
        for key, sockets in self._sockets.items():
            if key not in held:
                yield ListeningSocket(key=key), sockets[slot].fileno()
        for key, error in self._errors.items():
            yield ListeningSocket(key=key, error=error), -1

    def stop(self, directions: Iterable[TrafficDirection]) -> None:
        """Listeners of these directions get no more sockets."""
        self._stopped.update(directions)

    def keep_only(self, keys: Collection[BindKey]) -> None:
        for key in self._sockets.keys() - keys:
            for sock in self._sockets.pop(key):
                sock.close()
