"""Peeks at the first bytes of a connection; they stay in the kernel for TLS or the codec.

Readability is level-triggered: after a peek the socket is still readable. With SO_RCVLOWAT the kernel reports
it only when more bytes have arrived, so that a client that sends slowly causes no busy loop.
"""

from __future__ import annotations

import asyncio
import select
import socket

from sidecar.listener.detect import MAX_PEEK_BYTES, RAW, Detection, detect


async def sniff(sock: socket.socket, *, tls: bool, http: bool) -> Detection:
    """Detects the client's protocol. The caller limits the time. The answer is RAW when the client ends
    before its protocol is known. Raises ``OSError`` when the connection breaks."""
    raised_low_water = False
    try:
        while True:
            data = _peek(sock)
            verdict = detect(data, tls=tls, http=http)
            if isinstance(verdict, Detection):
                return verdict
            if _peer_has_finished(sock):
                # Data that arrived with the FIN counts too.
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
    """Returns when the client has sent data or has ended."""
    if not _peek(sock):
        await _readable(sock)


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(MAX_PEEK_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def _peer_has_finished(sock: socket.socket) -> bool:
    """A FIN has arrived: no data follows."""
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
