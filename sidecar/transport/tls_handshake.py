"""The result of a TLS handshake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class HandshakeResult:
    """It is set once: later calls of `succeed` and `fail` have no effect. ``on_failed`` is called with the
    error, and is forgotten with the result: its owner has this object, and a cycle would be left to the
    garbage collector."""

    __slots__ = ("_error", "_on_failed", "_waiter", "done")

    def __init__(self, on_failed: Callable[[Exception], None] | None) -> None:
        self.done = False
        self._error: Exception | None = None
        self._on_failed = on_failed
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Raises the error of a handshake that failed."""
        if not self.done:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def succeed(self) -> None:
        self._set(None)

    def fail(self, error: Exception) -> None:
        on_failed = self._on_failed
        if not self.done:
            self._set(error)
            if on_failed is not None:
                on_failed(error)

    def _set(self, error: Exception | None) -> None:
        if self.done:
            return
        self.done = True
        self._error = error
        self._on_failed = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
