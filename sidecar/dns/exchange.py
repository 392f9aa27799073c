"""One query to the resolvers of the pod over UDP."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from contextlib import suppress
from typing import Final

import dns.flags

from sidecar.dns.query import HEADER, Query
from sidecar.dns.resolv_conf import Upstream

_MAX_DATAGRAM_BYTES: Final = 65535
_ID: Final = struct.Struct("!H")
_IS_RESPONSE: Final = int(dns.flags.QR)


def with_id(message: bytes, message_id: int) -> bytes:
    return _ID.pack(message_id) + message[_ID.size :]


def answers(response: bytes, query: Query, message_id: int) -> bool:
    """Whether a message is the response to a query that was sent with this id. The question is compared too,
    in any case of its letters: an id has only 16 bits to guess (RFC 5452 section 9.1)."""
    if len(response) < HEADER.size:
        return False
    found, flags, questions, *_ = HEADER.unpack_from(response)
    if found != message_id or not flags & _IS_RESPONSE or questions > 1:
        return False
    if questions == 0:  # some servers leave it out of an error
        return bool(flags & 0xF)
    question = response[HEADER.size : HEADER.size + len(query.question)]
    return question.lower() == query.question.lower()


class DatagramExchange:
    """Each `send` has its own socket, with a random port and id, which receives from its resolver only. All
    of them receive until `close`: a slow resolver may answer after the next one was asked."""

    def __init__(self, query: Query, loop: asyncio.AbstractEventLoop) -> None:
        self._query = query
        self._loop = loop
        self._sockets: list[socket.socket] = []
        self._received: asyncio.Queue[tuple[Upstream, bytes | None]] = asyncio.Queue()

    @property
    def waits(self) -> bool:
        """Whether a resolver may still answer."""
        return bool(self._sockets) or not self._received.empty()

    def send(self, upstream: Upstream) -> None:
        """A failure is received as an answer of None."""
        message_id = secrets.randbits(16)
        channel: socket.socket | None = None
        try:
            channel = socket.socket(upstream.family, socket.SOCK_DGRAM)
            channel.setblocking(False)
            channel.connect(upstream.address)
            channel.send(with_id(self._query.data, message_id))
        except OSError:
            if channel is not None:
                channel.close()
            self._received.put_nowait((upstream, None))
            return
        self._sockets.append(channel)
        self._loop.add_reader(channel.fileno(), self._receive, channel, upstream, message_id)

    async def next(self, timeout_s: float) -> tuple[Upstream, bytes | None]:
        """The next answer of a resolver, with the id of the query; None if it cannot be reached. Raises
        ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            return await self._received.get()

    def _receive(self, channel: socket.socket, upstream: Upstream, message_id: int) -> None:
        try:
            response = channel.recv(_MAX_DATAGRAM_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # for example, nothing listens on the port
            self._forget(channel)
            self._received.put_nowait((upstream, None))
            return
        if answers(response, self._query, message_id):
            self._forget(channel)
            self._received.put_nowait((upstream, with_id(response, self._query.id)))

    def _forget(self, channel: socket.socket) -> None:
        self._loop.remove_reader(channel.fileno())
        self._sockets.remove(channel)
        channel.close()

    def close(self) -> None:
        for channel in tuple(self._sockets):
            with suppress(OSError):
                self._forget(channel)
