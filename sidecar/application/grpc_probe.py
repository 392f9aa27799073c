"""gRPC probes: ``grpc.health.v1.Health/Check``, in plaintext, as the kubelet sends it.

gRPC cannot choose the source address of a connection. So it connects to a socket of this process, which is
relayed to the connection of the probe.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from sidecar.application.connection import open_socket
from sidecar.application.redirects import ProbeError
from sidecar.config.endpoint import SocketAddress

_CHECK: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = 1
_STATUSES: Final = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_PIECE_BYTES: Final = 64 * 1024
_MAX_RESPONSE_BYTES: Final = 64 * 1024


async def check_grpc(address: SocketAddress, service: str, user_agent: str) -> None:
    """Returns if the service is serving. Raises `ProbeError`, or `OSError` if it cannot be connected to."""
    async with _relay(address) as socket_name:
        options = [
            ("grpc.default_authority", str(address)),
            ("grpc.primary_user_agent", user_agent),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
        ]
        async with grpc.aio.insecure_channel(f"unix-abstract:{socket_name}", options) as channel:
            # HealthCheckRequest has one field, the string 1; HealthCheckResponse has one, the enum 1.
            check = channel.unary_unary(
                _CHECK,
                request_serializer=StringValue.SerializeToString,
                response_deserializer=Int32Value.FromString,
            )
            try:
                response = await check(StringValue(value=service))
            except grpc.aio.AioRpcError as error:
                raise ProbeError(f"gRPC status {error.code().name}: {error.details()}") from None
    if response.value != _SERVING:
        raise ProbeError(f"the service {service!r} is {_STATUSES.get(response.value, response.value)}")


@asynccontextmanager
async def _relay(address: SocketAddress) -> AsyncIterator[str]:
    """The name of an abstract unix socket, whose first connection is relayed to ``address``. Other processes
    of the pod do not know the name, and could connect to the application anyway."""
    upstream = await asyncio.open_connection(sock=await open_socket(address))
    name = f"outrigger-probe-{secrets.token_hex(16)}"
    tasks: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if tasks:
            writer.close()
            return
        tasks.append(asyncio.create_task(_copy(reader, upstream[1]), name="probe-to-application"))
        tasks.append(asyncio.create_task(_copy(upstream[0], writer), name="application-to-probe"))

    try:
        server = await asyncio.start_unix_server(accept, f"\0{name}")
        try:
            yield name
        finally:
            server.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        upstream[1].close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        try:
            while data := await reader.read(_PIECE_BYTES):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
