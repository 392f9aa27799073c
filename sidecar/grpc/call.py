"""A gRPC call on a connection of its own.

The package `grpcio` would take 14 MB and a thread for it.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import socket
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from sidecar.build_info import VERSION
from sidecar.config.endpoint import SocketAddress
from sidecar.grpc.addresses import Addresses, system_look_up
from sidecar.grpc.errors import GrpcError, Http2Error
from sidecar.grpc.response import GrpcResponse, Headers, frame, status_of_reset
from sidecar.grpc_status import GrpcStatus

Metadata = Iterable[tuple[str, str]]

_USER_AGENT: Final = f"outrigger/{VERSION}"
_ALPN: Final = "h2"
_DEFAULT_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_TIMEOUT_MS: Final = 99_999_999
_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_ADDRESSES: Final = Addresses(system_look_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server. ``authority`` and ``server_name``, the name in its certificate, are by default the
    address. Without a ``keepalive_interval_s`` nothing is sent on an idle connection."""

    address: SocketAddress
    authority: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    user_agent: str = _USER_AGENT
    connect_timeout_s: float = 20.0
    keepalive_interval_s: float | None = None
    keepalive_timeout_s: float = 20.0
    max_message_bytes: int = _DEFAULT_MAX_MESSAGE_BYTES


class Call:
    """Made by `open_call`; `close` it. The event loop calls the methods of a protocol.

    While a message waits for `receive`, the server cannot send more than one window.
    """

    def __init__(self, target: Target, headers: Headers) -> None:
        # It takes 2 MB, and a sidecar with a static configuration makes no call.
        from sidecar.grpc.http2 import Http2Exchange  # noqa: PLC0415

        self._loop: Final = asyncio.get_running_loop()
        self._target: Final = target
        self._http: Final = Http2Exchange(headers, self)
        self._response: Final = GrpcResponse(target.max_message_bytes)
        self._transport: asyncio.Transport | None = None
        self._messages: deque[bytes] = deque()
        self._to_grant = 0
        self._ended = False
        self._error: GrpcError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._heard_s = 0.0

    # For the caller.

    def send(self, message: bytes, *, last: bool = False) -> None:
        """Does not wait. Nothing is sent after the end of the call."""
        if not self._ended:
            self._http.send(frame(message), end=last)
            self._flush()

    async def receive(self) -> bytes | None:
        """The next message; None when the server has ended the call. Raises `GrpcError` if it failed. Only
        one task may wait."""
        while not self._messages and not self._ended:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._messages:
            if self._error is not None:
                raise self._error
            return None
        message = self._messages.popleft()
        if not self._messages and not self._ended:
            self._grant()
            self._flush()
        return message

    def close(self) -> None:
        """Ends the call, and its connection."""
        self._end(GrpcError(GrpcStatus.CANCELLED, "the call was closed"))

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != _ALPN:
            self._end(GrpcError(GrpcStatus.UNAVAILABLE, "the server does not offer HTTP/2 (ALPN)"))
            return
        self._heard_s = self._loop.time()
        if self._target.keepalive_interval_s is not None:
            self._keepalive = self._loop.call_later(self._target.keepalive_interval_s, self._ping)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._heard_s = self._loop.time()
        try:
            self._http.receive(data)
        except Http2Error as error:
            self._end(GrpcError(GrpcStatus.UNAVAILABLE, f"HTTP/2: {error}"))
        except GrpcError as error:
            self._end(error)
        else:
            self._flush()

    def eof_received(self) -> bool:
        return False  # closes the connection

    def connection_lost(self, error: Exception | None) -> None:
        reason = f"the connection was lost: {error}" if error else "the server closed the connection"
        self._end(GrpcError(GrpcStatus.UNAVAILABLE, reason))

    def pause_writing(self) -> None:
        """The server does not read. It gets answers (PING, SETTINGS) only if it does."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # For `Http2Exchange`.

    def head(self, headers: Headers, ended: bool) -> None:
        self._response.head(headers, ended)
        if ended:
            self._end(None)

    def data(self, data: bytes) -> None:
        self._messages.extend(self._response.data(data))
        self._to_grant += len(data)
        if self._messages:
            self._wake()
        else:
            self._grant()

    def trailers(self, headers: Headers) -> None:
        self._response.trailers(headers)
        self._end(None)

    def end(self) -> None:
        self._response.end()

    def reset(self, code: int) -> None:
        raise GrpcError(status_of_reset(code), f"the server reset the stream: HTTP/2 error {code}")

    def going_away(self, code: int, reason: bytes) -> None:
        text = reason[:200].decode(errors="replace")
        details = f"the server goes away: HTTP/2 error {code} {text}"
        raise GrpcError(GrpcStatus.UNAVAILABLE, details.rstrip())

    def _grant(self) -> None:
        self._http.grant(self._to_grant)
        self._to_grant = 0

    def _flush(self) -> None:
        if self._transport is not None and (output := self._http.take_output()):
            self._transport.write(output)

    def _ping(self) -> None:
        """Called after a time without a check. A PING is answered by a live server."""
        interval_s = self._target.keepalive_interval_s
        assert interval_s is not None
        quiet_s = self._loop.time() - self._heard_s
        if quiet_s >= interval_s:
            self._http.ping()
            self._flush()
            self._keepalive = self._loop.call_later(
                self._target.keepalive_timeout_s, self._check_answer, self._heard_s
            )
        else:
            self._keepalive = self._loop.call_later(interval_s - quiet_s, self._ping)

    def _check_answer(self, heard_s: float) -> None:
        if self._heard_s > heard_s:
            self._ping()
            return
        timeout_s = self._target.keepalive_timeout_s
        self._end(GrpcError(GrpcStatus.UNAVAILABLE, f"no answer to a PING within {timeout_s:g} s"))

    def _end(self, error: GrpcError | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._wake()
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():  # the server does not read: it would never close
            transport.abort()
            return
        self._http.close()
        self._flush()
        transport.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def open_call(
    target: Target,
    path: str,
    metadata: Metadata = (),
    *,
    timeout_s: float | None = None,
    sock: socket.socket | None = None,
) -> Call:
    """Connects, or uses the connected ``sock``, and begins a call of the method ``/package.Service/Method``.
    ``timeout_s`` is told to the server. An address that does not answer takes its share of the time only.
    Raises `GrpcError`."""
    call = Call(target, _headers(target, path, metadata, timeout_s))
    if sock is not None:
        async with asyncio.timeout(target.connect_timeout_s):
            await _connect(target, call, sock=sock)
        return call
    reason = "the name has no address"
    found = await _ADDRESSES.of(target.address)
    hosts = random.sample(found, len(found))  # one that does not answer is not the first of each call
    limit_s = min(target.connect_timeout_s, timeout_s or math.inf) / max(1, len(hosts))
    for host in hosts:
        try:
            async with asyncio.timeout(limit_s):
                await _connect(target, call, host=host, port=target.address.port)
        except TimeoutError:
            reason = f"{host}: not connected within {limit_s:g} s"
        except (OSError, ValueError) as error:
            reason = f"{host}: {error}"
        else:
            return call
    raise GrpcError(GrpcStatus.UNAVAILABLE, f"cannot connect to {target.address}: {reason}")


async def _connect(target: Target, call: Call, **where: Any) -> None:
    server_name = (target.server_name or target.address.host) if target.tls is not None else None
    await asyncio.get_running_loop().create_connection(
        lambda: cast("asyncio.BaseProtocol", call),
        ssl=target.tls,
        server_hostname=server_name,
        **where,
    )


def _headers(target: Target, path: str, metadata: Metadata, timeout_s: float | None) -> Headers:
    headers = [
        (":method", "POST"),
        (":scheme", "http" if target.tls is None else "https"),
        (":path", path),
        (":authority", target.authority or target.server_name or str(target.address)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", target.user_agent),
    ]
    if timeout_s is not None:
        headers.append(("grpc-timeout", f"{min(round(timeout_s * 1000), _MAX_TIMEOUT_MS)}m"))
    for name, value in metadata:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise GrpcError(GrpcStatus.INTERNAL, f"the metadata {name!r} has an invalid name or value")
        headers.append((name, value))
    return [(name.encode(), value.encode()) for name, value in headers]


async def call_unary(
    target: Target,
    path: str,
    request: bytes,
    metadata: Metadata = (),
    *,
    timeout_s: float | None = None,
    sock: socket.socket | None = None,
) -> bytes:
    """The response to one request. The time limit is for all of it. Raises `GrpcError`."""
    try:
        async with asyncio.timeout(timeout_s):
            call = await open_call(target, path, metadata, timeout_s=timeout_s, sock=sock)
            try:
                call.send(request, last=True)
                return await _only_message(call)
            finally:
                call.close()
    except TimeoutError:
        raise GrpcError(GrpcStatus.DEADLINE_EXCEEDED, f"no response within {timeout_s} s") from None


async def _only_message(call: Call) -> bytes:
    message = await call.receive()
    if message is None or await call.receive() is not None:
        raise GrpcError(GrpcStatus.INTERNAL, "the response does not have one message")
    return message
