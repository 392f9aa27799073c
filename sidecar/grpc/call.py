"""A gRPC call on a connection of its own, to one of the replicas of a server."""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from typing import Any, Final, cast

from sidecar.grpc.addresses import Replica
from sidecar.grpc.errors import GrpcError, Http2Error
from sidecar.grpc.http2 import Http2Exchange
from sidecar.grpc.response import GrpcResponse, frame, status_of_reset
from sidecar.grpc.target import Metadata, Target, request_headers
from sidecar.grpc_status import GrpcStatus
from sidecar.http.headers import Headers
from sidecar.upstream.tcp_keepalive import set_tcp_keepalive

_ALPN: Final = "h2"
# A server that does not answer the end of TLS does not hold the connection for long.
_TLS_CLOSE_S: Final = 1.0


class Call:
    """Made by `open_call`; `close` it. The event loop calls the methods of a protocol.

    While a message waits for `receive`, the server cannot send more than one window. An ``endless`` call is
    one that only a failure or the end of the server ends.
    """

    def __init__(self, target: Target, replica: Replica, headers: Headers, *, endless: bool = False) -> None:
        """A connection is being opened."""
        self.replica: Final = replica
        self._stats: Final = target.calls.begin(replica)
        self._endless: Final = endless
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
        self._connected_s = 0.0
        addresses = target.addresses
        self._patience = self._loop.call_later(addresses.answer_patience_s, addresses.failed, replica.address)

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

    def time_out(self, error: GrpcError) -> None:
        """Ends the call, because its time is over."""
        if not self._ended:
            self._stats.timed_out()
            self._end(error)
        self._target.addresses.failed(self.replica.address)

    def close(self) -> None:
        """Ends the call, and its connection."""
        self._end(GrpcError(GrpcStatus.CANCELLED, "the call was closed"), given_up=True)

    # For the event loop.

    def not_connected(self, error: BaseException) -> None:
        self._patience.cancel()
        self._target.addresses.failed(self.replica.address)
        self._stats.not_connected(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connected_s = self._loop.time()
        tls = transport.get_extra_info("ssl_object")
        self._stats.connected(secured=tls is not None)
        if tls is not None and tls.selected_alpn_protocol() != _ALPN:
            self._end(GrpcError(GrpcStatus.UNAVAILABLE, "the server does not offer HTTP/2 (ALPN)"))
            return
        self._heard_s = self._loop.time()
        if self._target.keepalive_interval_s is not None:
            self._keepalive = self._loop.call_later(self._target.keepalive_interval_s, self._ping)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._stats.received(len(data))
        if self._ended:
            return
        self._heard_s = self._loop.time()
        try:
            self._http.receive(data)
        except Http2Error as error:
            self._stats.protocol_error(error.counter)
            self._end(GrpcError(GrpcStatus.UNAVAILABLE, f"HTTP/2: {error}"))
        except GrpcError as error:
            self._end(error)
        else:
            self._flush()

    def eof_received(self) -> bool:
        return False  # closes the connection

    def connection_lost(self, error: Exception | None) -> None:
        reason = f"the connection was lost: {error}" if error else "the server closed the connection"
        self._transport = None
        if not self._ended:
            self._stats.cut_short(by_server=True)
        self._stats.disconnected()
        self._end(GrpcError(GrpcStatus.UNAVAILABLE, reason))

    def pause_writing(self) -> None:
        """The server does not read. It gets answers (PING, SETTINGS) only if it does."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # For `Http2Exchange`.

    def head(self, status: int, headers: Headers, ended: bool) -> None:
        self._stats.responded(status, self._loop.time() - self._connected_s)
        self._response.head(status, headers, ended)
        if ended:
            self._end(None)

    def data(self, data: bytes) -> None:
        self._messages.extend(self._response.data(data))
        self._to_grant += len(data)
        if self._messages:
            self._patience.cancel()
            self._target.addresses.answered(self.replica.address)
            self._wake()
        else:
            self._grant()

    def trailers(self, headers: Headers) -> None:
        self._stats.trailers()
        self._response.trailers(headers)
        self._end(None)

    def end(self) -> None:
        self._response.end()

    def reset(self, code: int) -> None:
        self._stats.reset_by_server()
        raise GrpcError(status_of_reset(code), f"the server reset the stream: HTTP/2 error {code}")

    def draining(self) -> None:
        """The server finishes calls for a while. One without an end continues at another replica."""
        if self._endless:
            error = GrpcError(GrpcStatus.UNAVAILABLE, "the server is about to close the connection")
            self._end(error, given_up=True)
        else:
            self._target.addresses.failed(self.replica.address)

    def going_away(self, code: int, reason: bytes) -> None:
        text = reason[:200].decode(errors="replace")
        details = f"the server goes away: HTTP/2 error {code} {text}"
        raise GrpcError(GrpcStatus.UNAVAILABLE, details.rstrip())

    def _grant(self) -> None:
        self._http.grant(self._to_grant)
        self._to_grant = 0

    def _flush(self) -> None:
        if self._transport is not None and (output := self._http.take_output()):
            self._stats.sent(len(output))
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
        self._stats.keepalive_expired()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._end(GrpcError(GrpcStatus.UNAVAILABLE, f"no answer to a PING within {timeout_s:g} s"))

    def _end(self, error: GrpcError | None, *, given_up: bool = False) -> None:
        """``given_up``: the error tells nothing about the server."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        if given_up:
            self._stats.ended(None)
        else:
            self._stats.ended(GrpcStatus.OK if error is None else error.status)
        if self._is_failure(error):
            self._target.addresses.failed(self.replica.address)
        self._patience.cancel()
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._wake()
        transport = self._transport
        if transport is None:
            return
        if transport.get_write_buffer_size():  # the server does not read: it would never close
            transport.abort()
            return
        if self._http.close():
            self._stats.reset_here()
        self._flush()
        transport.close()

    def _is_failure(self, error: GrpcError | None) -> bool:
        """Whether the next call should rather go to another replica."""
        return self._endless if error is None else error.status is GrpcStatus.UNAVAILABLE

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def open_call(
    target: Target,
    path: str,
    metadata: Metadata = (),
    *,
    timeout_s: float | None = None,
    endless: bool = False,
) -> Call:
    """Connects to the first replica that can be reached, and begins a call of the method
    ``/package.Service/Method``. ``timeout_s`` is told to the server; an address that does not answer takes
    its share of the time only. ``endless``: see `Call`. Raises `GrpcError`."""
    replicas = await target.addresses.replicas(target.endpoints)
    target.calls.keep(replicas)
    limit_s = min(target.connect_timeout_s, (timeout_s or math.inf) / max(1, len(replicas)))
    reason = ""
    for replica in replicas:
        headers = request_headers(target, replica, path, metadata, timeout_s)
        try:
            return await _connect(Call(target, replica, headers, endless=endless), target, limit_s)
        except TimeoutError:
            reason = f"{replica.address.host}: not connected within {limit_s:g} s"
        except (OSError, ValueError) as error:
            reason = f"{replica.address.host}: {error}"
    target.calls.unanswered()
    raise GrpcError(GrpcStatus.UNAVAILABLE, f"cannot connect to {target}: {reason}")


async def _connect(call: Call, target: Target, limit_s: float, sock: socket.socket | None = None) -> Call:
    """Raises ``OSError``, of which ``TimeoutError`` is one, and ``ValueError`` for an invalid name."""
    address, name = call.replica.address, target.server_name or call.replica.name
    where: dict[str, Any] = {"sock": sock} if sock else {"host": address.host, "port": address.port}
    try:
        async with asyncio.timeout(limit_s):
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: cast("asyncio.BaseProtocol", call),
                ssl=target.tls,
                server_hostname=name if target.tls is not None else None,
                ssl_shutdown_timeout=_TLS_CLOSE_S if target.tls is not None else None,
                **where,
            )
        if target.tcp_keepalive is not None:
            set_tcp_keepalive(transport, target.tcp_keepalive)
    except BaseException as error:
        call.not_connected(error)
        raise
    return call


async def call_unary(
    target: Target,
    path: str,
    request: bytes,
    metadata: Metadata = (),
    *,
    timeout_s: float | None = None,
    sock: socket.socket | None = None,
) -> bytes:
    """The response to one request. The time limit is for all of it. A connected ``sock`` is used instead of
    a connection to a replica. Raises `GrpcError`, and with ``sock`` also ``OSError``."""
    call: Call | None = None
    try:
        async with asyncio.timeout(timeout_s):
            if sock is None:
                call = await open_call(target, path, metadata, timeout_s=timeout_s)
            else:
                call = await _call_on(sock, target, path, metadata, timeout_s)
            call.send(request, last=True)
            return await _only_message(call)
    except TimeoutError:
        error = GrpcError(GrpcStatus.DEADLINE_EXCEEDED, f"no response within {timeout_s} s")
        if call is not None:
            call.time_out(error)
        else:
            target.calls.timed_out()
            target.calls.unanswered()
        raise error from None
    finally:
        if call is not None:
            call.close()


async def _call_on(
    sock: socket.socket, target: Target, path: str, metadata: Metadata, timeout_s: float | None
) -> Call:
    address = target.endpoints[0].address
    replica = Replica(address, address.host)
    headers = request_headers(target, replica, path, metadata, timeout_s)
    return await _connect(Call(target, replica, headers), target, target.connect_timeout_s, sock)


async def _only_message(call: Call) -> bytes:
    message = await call.receive()
    if message is None or await call.receive() is not None:
        raise GrpcError(GrpcStatus.INTERNAL, "the response does not have one message")
    return message
