"""Looks at a connection's first bytes and leaves them in the kernel, for TLS or the codec to read.

Readability is level-triggered: bytes that were peeked at make the socket readable for ever. SO_RCVLOWAT tells
the kernel to report it only when there is more than that, so a client that sends byte by byte, or nothing,
costs no spinning.
"""

from __future__ import annotations

import asyncio
import select
import socket

from sidecar.listener.detect import MAX_PEEK_BYTES, RAW, Detection, detect


async def sniff(sock: socket.socket, *, tls: bool, http: bool) -> Detection:
    """What the client speaks. Waits for as long as that takes: the caller sets the time limit. A client that
    has finished sending before it can be told is RAW. Raises ``OSError`` when the connection breaks."""
    raised_low_water = False
    try:
        while True:
            data = _peek(sock)
            verdict = detect(data, tls=tls, http=http)
            if isinstance(verdict, Detection):
                return verdict
            if _peer_has_finished(sock):
                # What arrived with the FIN counts too.
                verdict = detect(_peek(sock), tls=tls, http=http)
                return verdict if isinstance(verdict, Detection) else RAW
            if verdict.size_bytes > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, verdict.size_bytes)
                raised_low_water = True
            await _readable(sock)
    finally:
        if raised_low_water and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def first_byte(sock: socket.socket) -> None:
    """Returns when the client has sent something, or has ended."""
    if not _peek(sock):
        await _readable(sock)


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def _peer_has_finished(sock: socket.socket) -> bool:
    """A FIN has come: nothing more will."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    fd = sock.fileno()
    loop.add_reader(fd, _wake, readable)
    try:
        await readable
    finally:
        loop.remove_reader(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
