"""The tasks that serve the streams of a connection: each serves one stream at a time, and waits for another
one. A task for each request would cost more than finding its route."""

from __future__ import annotations

import asyncio
from typing import Any

from sidecar.http.h2.server_exchange import Http2ServerExchange


class Http2StreamWorker:
    """Made for its first exchange. An exchange that is given up ends its worker too."""

    __slots__ = ("_exchange", "_idle", "_loop", "_started", "_task", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[Http2StreamWorker]) -> None:
        """`idle` are the workers of the connection that wait for an exchange."""
        self._loop = loop
        self._idle = idle
        self._waiter: asyncio.Future[Any] = loop.create_future()
        self._exchange: Http2ServerExchange | None = None
        self._started = False
        self._task: asyncio.Task[None] | None = None

    def serve(self, exchange: Http2ServerExchange) -> None:
        """Lets the stack send the request at once, if it can: then the upstream's response ends the wait."""
        self._exchange = exchange
        waiter = self._waiter
        if not exchange.served.begin(waiter) and not waiter.done():
            waiter.set_result(None)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name="http2-stream")

    def give_up(self) -> None:
        """The exchange has ended early."""
        if self._started and self._task is not None:
            self._task.cancel()
        elif not self._waiter.done():  # a task that has not begun would never see its cancellation
            self._waiter.cancel()

    def end(self) -> None:
        """The connection is lost. An idle worker ends."""
        if self._exchange is None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _run(self) -> None:
        self._started = True
        while True:
            try:
                await self._waiter
            except BaseException:
                if self._exchange is None:
                    raise  # else the exchange gets the same error, or the cancellation
            exchange = self._exchange
            if exchange is None:
                return
            if exchange.ended and self._task is not None:
                self._task.cancel()
            await exchange.serve()
            self._exchange = None
            self._waiter = self._loop.create_future()
            self._idle.append(self)
