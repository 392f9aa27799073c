"""The ADS server: it turns gRPC streams into `Connection`s and handles their errors."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import grpc
from envoy.service.discovery.v3 import ads_pb2_grpc
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry

from controlplane.errors import (
    AuthorityError,
    PermissionDeniedError,
    ProxyError,
    UnknownWorkloadError,
)
from controlplane.grpc_status import status_of
from controlplane.model.known_workloads import NO_WORKLOADS, KnownWorkloads
from controlplane.model.proxy import Caller, ProxyProgress
from controlplane.model.snapshot import MeshSnapshot, SnapshotChange
from controlplane.xds import status
from controlplane.xds.connections import Connection, Connections, End
from controlplane.xds.delta import DeltaStream
from controlplane.xds.generator import Generator
from controlplane.xds.identification import Claims, Identification, Identified
from controlplane.xds.metrics import XdsMetrics
from controlplane.xds.node import proxy_of, version_of
from controlplane.xds.pusher import Pusher
from controlplane.xds.sotw import SotwStream
from controlplane.xds.stream import Stream
from protos import type_urls

_LOG = logging.getLogger(__name__)

StreamType = type[Stream[Any, Any]]
Metadata = Iterable[tuple[str, str | bytes]]
# Returns the caller that a call's metadata authenticates. Raises `AuthorityError`.
Authenticate = Callable[[Metadata], Awaitable[Caller]]

# For `grpc.aio.server`. A dead proxy is detected within 40 s. A request contains names only, so 4 MiB are
# enough.
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)

_WRITE_TIMEOUT_S: Final = 20.0
_FAREWELL_S: Final = 1.0
# A Pod is created before its proxy starts, but a watch may report it after the proxy has connected.
_WORKLOAD_PATIENCE_S: Final = 5.0
_DONE: Final = End(code=grpc.StatusCode.OK, details="the proxy ended the stream")


class XdsServer:
    """Can be added to any number of gRPC servers. If ``authenticate`` is given, a proxy must authenticate
    over TLS; a plaintext port is for loopback and requires no token. ``knows_all`` means that the snapshots
    contain every workload, as in a cluster; remote proxies of unknown workloads are then rejected."""

    def __init__(
        self,
        generator: Generator,
        *,
        clock: Callable[[], float] = time.monotonic,
        registry: CollectorRegistry,
        authenticate: Authenticate | None = None,
        knows_all: bool = False,
        workload_patience_s: float = _WORKLOAD_PATIENCE_S,
        write_timeout_s: float = _WRITE_TIMEOUT_S,
    ) -> None:
        self._clock: Final = clock
        self._authenticate: Final = authenticate
        self._identification: Final = Identification(knows_all=knows_all)
        self._workload_patience_s: Final = workload_patience_s
        self._known = NO_WORKLOADS
        self._news = asyncio.Event()  # set when workloads change, and then replaced
        self._write_timeout_s: Final = write_timeout_s
        self._handlers: Final[set[asyncio.Task[Any]]] = set()
        self._connections: Final = Connections()
        self._metrics: Final = XdsMetrics(registry)
        self._pusher: Final = Pusher(generator, self._connections, self._metrics, clock=clock)
        for type_url, gauge in self._metrics.rejecting.items():
            gauge.set_function(partial(self._connections.rejecting, type_url))

    def add_to(self, server: grpc.aio.Server) -> None:
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, server)

    def set_snapshot(self, snapshot: MeshSnapshot, change: SnapshotChange) -> None:
        """Uses ``snapshot`` from now on and pushes to the proxies that ``change`` affects. Must be called on
        the event loop."""
        self._metrics.services.set(len(snapshot.services))
        self._metrics.virtual_services.set(len(snapshot.virtual_services))
        self._pusher.start()
        self._pusher.set_snapshot(snapshot, change, self._follow_workloads(snapshot.known_workloads))

    def _follow_workloads(self, known: KnownWorkloads) -> list[Connection]:
        """Identifies the connected proxies again. Returns those whose properties have changed, and
        disconnects those that are no longer permitted."""
        if known is self._known:
            return []
        self._known = known
        self._news.set()
        self._news = asyncio.Event()
        changed = []
        for connection in self._connections:
            before = _seen(connection)
            if connection.ended.done():
                continue
            try:
                connection.identified = self._identification.follow(
                    connection.claims, connection.identified, known
                )
            except PermissionDeniedError as error:
                _LOG.warning("disconnected %s: %s", connection.id, error)
                connection.end(_end_of(error))
                continue
            if _seen(connection) != before:
                _LOG.info("%s: the properties of its object have changed", connection.id)
                changed.append(connection)
        return changed

    def proxies(self) -> list[status.ProxyStatus]:
        """Returns the status of every stream, in the order of their connections."""
        now = self._clock()
        return [status.proxy_status(connection, now) for connection in self._connections]

    def progress(self) -> list[ProxyProgress]:
        """Returns the progress of each connected proxy. Must be called on the event loop."""
        return self._pusher.progress()

    def config_dump(self, proxy_id: str) -> dict[str, Any]:
        """Returns a proxy's last sent configuration as JSON in the format of Envoy's ``/config_dump``. Slow
        for a large mesh; can be called from another thread. Raises `ProxyError` if the proxy is not
        connected."""
        return status.config_dump(self._connections.of_proxy(proxy_id))

    async def close(self) -> None:
        """Ends every stream with UNAVAILABLE: the proxies reconnect to another instance, or later."""
        for connection in self._connections:
            connection.end(End(code=grpc.StatusCode.UNAVAILABLE, details="the control plane is stopping"))
        await self._pusher.close()
        if self._handlers:
            # A proxy that does not read does not receive the status either.
            await asyncio.wait(self._handlers, timeout=_FAREWELL_S)

    # --- the gRPC service

    async def StreamAggregatedResources(self, _: object, context: grpc.aio.ServicerContext) -> None:
        await self._serve(context, SotwStream)

    async def DeltaAggregatedResources(self, _: object, context: grpc.aio.ServicerContext) -> None:
        await self._serve(context, DeltaStream)

    async def _serve(self, context: grpc.aio.ServicerContext, stream_type: StreamType) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        end = await self._from_first_to_last(context, stream_type)
        if end.code is not grpc.StatusCode.OK:
            await context.abort(end.code, end.details)

    async def _from_first_to_last(self, context: grpc.aio.ServicerContext, stream_type: StreamType) -> End:
        """Handles a stream from its first request to its end. Returns the status for the proxy."""
        try:
            caller = await self._caller(context)
        except AuthorityError as error:
            # The client of grpc.aio reports INTERNAL instead of the status while its first write is pending.
            with suppress(TimeoutError, DecodeError):
                await asyncio.wait_for(context.read(), _FAREWELL_S)
            return _reject(context, error)
        try:
            request = await context.read()
            if request is grpc.aio.EOF:
                return _DONE
            connection = await self._open(request, caller, context, stream_type)
        except (AuthorityError, ProxyError, DecodeError) as error:
            return _reject(context, error)
        return await self._follow(connection, request, context)

    async def _caller(self, context: grpc.aio.ServicerContext) -> Caller | None:
        if self._authenticate is None or _is_plaintext(context):
            return None
        return await self._authenticate(context.invocation_metadata() or ())

    async def _identified(self, claims: Claims) -> Identified:
        """Identifies a proxy; waits if its workload is not known yet. Raises `UnknownWorkloadError` after a
        timeout."""
        try:
            async with asyncio.timeout(self._workload_patience_s):
                while True:
                    news = self._news
                    try:
                        return self._identification.identify(claims, self._known)
                    except UnknownWorkloadError:
                        await news.wait()
        except TimeoutError:
            return self._identification.identify(claims, self._known)

    async def _open(
        self,
        request: Any,
        caller: Caller | None,
        context: grpc.aio.ServicerContext,
        stream_type: StreamType,
    ) -> Connection:
        claims = Claims(
            proxy=proxy_of(request.node),
            caller=caller,
            remote=not _is_plaintext(context),
            returns=stream_type.returns(request),
        )
        identified = await self._identified(claims)
        # No await from here on: the connection must not miss a change of its workload in the next snapshot.
        connection = Connection(
            connection_id=self._connections.next_id(claims.proxy),
            claims=claims,
            identified=identified,
            version=version_of(request.node),
            peer=context.peer(),
            # Random, so that a nonce from before a restart is never mistaken for a current one.
            stream=stream_type(secrets.token_hex(4)),
            now=self._clock(),
        )
        self._connections.add(connection)
        self._metrics.connected.labels(version=connection.version).inc()
        _LOG.info("%s connected from %s, %s", connection.id, connection.peer, connection.stream.variant)
        if identified.outdated:
            _LOG.warning(
                "%s: the labels of its object are used: %s", connection.id, "; ".join(identified.outdated)
            )
        return connection

    def _close(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        connection.end(End(code=grpc.StatusCode.CANCELLED, details="the proxy disconnected"))
        self._connections.remove(connection)
        self._pusher.forget(connection)
        if any(other.version == connection.version for other in self._connections):
            self._metrics.connected.labels(version=connection.version).dec()
        else:
            # Proxies choose the label's value, so it is removed with the last proxy that has it.
            self._metrics.connected.remove(connection.version)
        _LOG.info("%s disconnected: %s", connection.id, connection.ended.result().details)

    async def _follow(self, connection: Connection, first: Any, context: grpc.aio.ServicerContext) -> End:
        """Reads and writes concurrently until either ends, then cleans up."""
        reader = asyncio.create_task(
            _until_the_end(connection, self._read(connection, first, context)),
            name=f"xds-read {connection.id}",
        )
        writer = asyncio.create_task(
            _until_the_end(connection, self._write(connection, context)), name=f"xds-write {connection.id}"
        )
        try:
            # Shielded: gRPC cancels this task when the proxy disconnects.
            end = await asyncio.shield(connection.ended)
            self._close(connection)
            # gRPC cannot send a status while a message to the proxy is still being written.
            await writer
            return end
        finally:
            self._close(connection)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, connection: Connection, request: Any, context: grpc.aio.ServicerContext) -> None:
        while request is not grpc.aio.EOF:
            self._receive(connection, request)
            request = await context.read()

    def _receive(self, connection: Connection, request: Any) -> None:
        short_name = type_urls.SHORT_NAMES.get(request.type_url)
        if short_name is None:
            connection.warn_once(request.type_url)
            return
        rejection = connection.stream.receive(request, self._clock())
        if rejection is not None:
            self._metrics.total_rejects.labels(type=short_name).inc()
            _LOG.warning("%s rejected %s: %s", connection.id, short_name, rejection.reason)
        self._pusher.look_after(connection)

    async def _write(self, connection: Connection, context: grpc.aio.ServicerContext) -> None:
        loop = asyncio.get_running_loop()
        while (response := await connection.next_response()) is not None:
            timer = loop.call_later(self._write_timeout_s, self._warn_slow_reader, connection)
            try:
                await context.write(response)
            finally:
                timer.cancel()
            connection.written()
            if connection.drained:
                self._pusher.drained(connection)

    def _warn_slow_reader(self, connection: Connection) -> None:
        """Logs that the proxy does not read. Nothing is lost: further changes are merged into its next push,
        until it reads again or its keepalive fails."""
        self._metrics.write_timeouts.inc()
        _LOG.warning("%s has not read a response for %g s", connection.id, self._write_timeout_s)


def _seen(connection: Connection) -> object:
    """Returns the properties of a proxy that the builders can use."""
    workload = connection.identified.workload
    return connection.proxy, workload.owner if workload else ""


def _is_plaintext(context: grpc.aio.ServicerContext) -> bool:
    """gRPC reports "insecure" credentials for a plaintext connection."""
    return b"insecure" in context.auth_context().get("transport_security_type", (b"insecure",))


async def _until_the_end(connection: Connection, work: Coroutine[Any, Any, None]) -> None:
    """Runs the reader or the writer, and ends the stream when it ends."""
    try:
        await work
    except Exception as error:
        end = _end_of(error)
        if end.code is grpc.StatusCode.INTERNAL:
            _LOG.exception("%s: the stream failed", connection.id)
        connection.end(end)
    else:
        connection.end(_DONE)


def _reject(context: grpc.aio.ServicerContext, error: Exception) -> End:
    _LOG.warning("rejected the proxy at %s: %s", context.peer(), error)
    return _end_of(error)


def _end_of(error: Exception) -> End:
    code = _code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        return End(code=code, details="internal error of the control plane; see its log")
    return End(code=code, details=str(error) or type(error).__name__)


def _code_of(error: Exception) -> grpc.StatusCode:
    match error:
        case DecodeError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case grpc.aio.BaseError():  # the proxy disconnected during a write
            return grpc.StatusCode.CANCELLED
        case _:
            return status_of(error)
