"""Work in another network namespace, in a thread: setns(2) concerns only the thread that calls it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")
_LIBC = ctypes.CDLL(None, use_errno=True)


async def within(namespace: Path, work: Callable[[], Result]) -> Result:
    """The result of a function that is called in the namespace (a file such as /run/netns/<name>)."""

    def switch_and_work() -> Result:
        with open("/proc/thread-self/ns/net") as own, namespace.open() as other:
            enter(other.fileno())
            try:
                return work()
            finally:
                enter(own.fileno())

    return await asyncio.to_thread(switch_and_work)


async def socket_in(namespace: Path) -> socket.socket:
    """A TCP socket of the namespace, non-blocking. It stays there, also when other threads use it."""
    made = await within(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.setblocking(False)
    return made


def enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
