"""CONNECT requests that end at this proxy: the payload is sent to a host as raw TCP
(``upgrade_configs[].connect_config``)."""

from __future__ import annotations

import asyncio
from typing import cast

from sidecar.errors import RequestError, UpstreamResetError
from sidecar.http.body import Body, BodyStream
from sidecar.transport.closing import TUNNEL_FLUSH_TIMEOUT_S, close_when_flushed, reset


class Tunnel(asyncio.Protocol):
    """The upstream half: bytes from the host become a body, and bytes from the client are written to the
    host."""

    def __init__(self) -> None:
        self.body = BodyStream(self)
        self._transport: asyncio.Transport | None = None
        self._sent = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def carry(self, source: Body) -> None:
        """Writes everything that the client sends, then waits until the host ends its direction."""
        try:
            while data := await source.read():
                if self._transport is None:
                    return
                self._transport.write(data)
                await self._writable.wait()
            self._end_sending()
            await self._lost
        except RequestError:
            self.abandon_body()  # the client has disconnected
        finally:
            source.close()

    def _end_sending(self) -> None:
        """Ends only this direction while the host may still send."""
        if self._transport is None:
            return
        self._sent = True
        if self.body.ended:
            close_when_flushed(self._transport, TUNNEL_FLUSH_TIMEOUT_S)
        else:
            self._transport.write_eof()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from it

    def data_received(self, data: bytes) -> None:
        self.body.feed(data)

    def eof_received(self) -> bool:
        self.body.feed_end()
        if self._sent and self._transport is not None:
            close_when_flushed(self._transport, TUNNEL_FLUSH_TIMEOUT_S)
        return True  # the client may still send

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if exc is None:
            self.body.feed_end()
        else:
            self.body.fail(UpstreamResetError(f"the tunnel broke: {exc}", request_sent=True))
        self._writable.set()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # BodySource

    def pause_body(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_body(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abandon_body(self) -> None:
        """Resets the host's connection: a clean end would mean that the client has sent everything."""
        if self._transport is None:
            return
        if self._sent:
            close_when_flushed(self._transport, TUNNEL_FLUSH_TIMEOUT_S)
        else:
            reset(self._transport)
