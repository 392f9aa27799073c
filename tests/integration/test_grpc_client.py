"""The sidecar's gRPC client against servers of grpcio, and against sockets that are no such server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
import pytest
import trustme

from sidecar.config.endpoint import Endpoint, SocketAddress
from sidecar.grpc.addresses import Addresses, system_look_up
from sidecar.grpc.call import call_unary, open_call
from sidecar.grpc.errors import GrpcError
from sidecar.grpc.target import Target
from sidecar.grpc.tls import over_http2, verifying_context
from sidecar.grpc_status import GrpcStatus
from tests.support.silent_host import vanishing_host

LARGE = 5 * 1024 * 1024
UNARY, STREAM = "/test.S/Unary", "/test.S/Stream"


async def answer(request: bytes, context: Any) -> bytes:
    match request:
        case b"fail":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, " not you, “x”\n100%: ")
        case b"metadata":
            return str(dict(context.invocation_metadata())["x-name"]).encode()
        case b"sleep":
            await asyncio.sleep(60)
        case b"time":
            return str(context.time_remaining()).encode()
    return request


async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        if request == b"fail":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")
        yield request


@asynccontextmanager
async def serving(credentials: Any = None) -> AsyncIterator[tuple[Any, SocketAddress]]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(answer),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.S", handlers)])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield server, SocketAddress("127.0.0.1", port)
    finally:
        await server.stop(0)


Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def other_server(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[SocketAddress]:
    served: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with suppress(OSError):
            await handle(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield SocketAddress(*server.sockets[0].getsockname()[:2])
        await asyncio.gather(*(task for task in served if task is not None))


def at(*addresses: SocketAddress, **options: Any) -> Target:
    """A server with replicas at these addresses. Failures of other tests are not remembered."""
    options.setdefault("addresses", Addresses(system_look_up))
    return Target(endpoints=tuple(Endpoint(address=address) for address in addresses), **options)


async def is_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_call_with_one_response() -> None:
    async with serving() as (_, address):
        target = at(address)
        assert await call_unary(target, UNARY, b"hello", timeout_s=10) == b"hello"
        assert await call_unary(target, UNARY, b"metadata", [("x-name", "a b")], timeout_s=10) == b"a b"
        assert 0 < float(await call_unary(target, UNARY, b"time", timeout_s=10)) <= 10


async def test_messages_larger_than_the_windows_of_both_sides() -> None:
    async with serving() as (_, address):
        target = at(address, max_message_bytes=LARGE)
        message = bytes(range(256)) * (LARGE // 256)
        assert await call_unary(target, UNARY, message, timeout_s=30) == message


async def test_error_of_the_server_has_status_and_details() -> None:
    async with serving() as (_, address):
        with pytest.raises(GrpcError) as caught:
            await call_unary(at(address), UNARY, b"fail", timeout_s=10)
        assert caught.value.status is GrpcStatus.PERMISSION_DENIED
        assert caught.value.details == " not you, “x”\n100%: "
        with pytest.raises(GrpcError, match="UNIMPLEMENTED"):
            await call_unary(at(address), "/test.S/Missing", b"", timeout_s=10)


async def test_message_over_the_limit_is_refused() -> None:
    async with serving() as (_, address):
        with pytest.raises(GrpcError, match="RESOURCE_EXHAUSTED: a message of 11 bytes, at most 10"):
            await call_unary(at(address, max_message_bytes=10), UNARY, b"x" * 11, timeout_s=10)


async def test_time_limit() -> None:
    async with serving() as (_, address):
        with pytest.raises(GrpcError, match=r"DEADLINE_EXCEEDED"):
            await call_unary(at(address), UNARY, b"sleep", timeout_s=0.1)


@pytest.mark.parametrize(("name", "value"), [("Upper", "x"), ("name", "a\r\nb"), ("", "x")])
async def test_invalid_metadata_is_not_sent(name: str, value: str) -> None:
    target = at(SocketAddress("127.0.0.1", 1))
    with pytest.raises(GrpcError, match="INTERNAL: the metadata"):
        await call_unary(target, UNARY, b"", [(name, value)], timeout_s=10)


async def test_stream_in_both_directions() -> None:
    async with serving() as (_, address):
        call = await open_call(at(address, max_message_bytes=LARGE), STREAM)
        for message in (b"a", b"", bytes(LARGE)):
            call.send(message)
            assert await call.receive() == message
        call.send(b"b")
        call.send(b"c", last=True)
        assert [await call.receive() for _ in range(4)] == [b"b", b"c", None, None]
        call.close()


async def test_stream_that_the_server_ends() -> None:
    async with serving() as (_, address):
        call = await open_call(at(address), STREAM)
        call.send(b"a")
        call.send(b"fail")
        assert await call.receive() == b"a"
        with pytest.raises(GrpcError, match="UNIMPLEMENTED: no"):
            await call.receive()
        call.send(b"ignored")


async def test_stream_continues_while_the_server_stops_gracefully() -> None:
    async with serving() as (server, address):
        call = await open_call(at(address), STREAM)
        call.send(b"a")
        assert await call.receive() == b"a"
        stopping = asyncio.create_task(server.stop(0.2))
        await asyncio.sleep(0.05)
        call.send(b"b")
        assert await call.receive() == b"b"
        with pytest.raises(GrpcError):
            await call.receive()
        await stopping


async def test_messages_wait_for_a_slow_reader() -> None:
    """Flow control stops the server, which loses nothing."""
    numbers = [number.to_bytes(2, "big") * 8192 for number in range(300)]
    async with serving() as (_, address):
        call = await open_call(at(address), STREAM)
        for message in numbers:
            call.send(message)
        await asyncio.sleep(0.05)
        assert [await call.receive() for _ in numbers] == numbers
        call.close()


async def test_refused_connection() -> None:
    target = at(SocketAddress("127.0.0.1", 1))
    with pytest.raises(GrpcError, match=r"^UNAVAILABLE: cannot connect to 127\.0\.0\.1:1: 127\.0\.0\.1: "):
        await open_call(target, STREAM)


async def test_address_that_does_not_answer_takes_its_share_of_the_time_only() -> None:
    async with serving() as (_, address):
        with vanishing_host() as port:
            silent = Endpoint(address=SocketAddress("127.0.0.1", port))
            target = Target(
                endpoints=(silent, Endpoint(address=address, priority=1)), addresses=Addresses(system_look_up)
            )
            assert await call_unary(target, UNARY, b"hello", timeout_s=2) == b"hello"


async def test_unknown_name() -> None:
    with pytest.raises(GrpcError, match=r"^UNAVAILABLE: cannot resolve name\.invalid"):
        await open_call(at(SocketAddress("name.invalid", 1)), STREAM)


async def test_server_without_http2() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
        await is_silent(reader, writer)

    async with other_server(handle) as address:
        call = await open_call(at(address), STREAM)
        with pytest.raises(GrpcError, match="UNAVAILABLE: HTTP/2: "):
            await call.receive()


async def test_silent_server_is_noticed_by_a_ping() -> None:
    async with other_server(is_silent) as address:
        call = await open_call(at(address, keepalive_interval_s=0.05, keepalive_timeout_s=0.05), STREAM)
        with pytest.raises(GrpcError, match=r"UNAVAILABLE: no answer to a PING within 0\.05 s"):
            await call.receive()


async def test_live_server_answers_pings() -> None:
    async with serving() as (_, address):
        call = await open_call(at(address, keepalive_interval_s=0.1, keepalive_timeout_s=10), STREAM)
        call.send(b"a")
        assert await call.receive() == b"a"
        await asyncio.sleep(0.15)
        call.send(b"b")
        assert await call.receive() == b"b"
        call.close()


@asynccontextmanager
async def serving_tls(name: str) -> AsyncIterator[tuple[SocketAddress, bytes]]:
    authority = trustme.CA()
    certificate = authority.issue_cert(name)
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    async with serving(credentials) as (_, address):
        yield address, authority.cert_pem.bytes()


@pytest.mark.parametrize(("name", "server_name"), [("plane.test", "plane.test"), ("127.0.0.1", "")])
async def test_tls_with_the_name_or_the_address_in_the_certificate(name: str, server_name: str) -> None:
    async with serving_tls(name) as (address, roots):
        target = at(address, tls=verifying_context(roots, "file"), server_name=server_name)
        assert await call_unary(target, UNARY, b"hello", timeout_s=10) == b"hello"


async def test_tls_with_another_name_or_other_roots_is_refused() -> None:
    async with serving_tls("plane.test") as (address, roots):
        target = at(address, tls=verifying_context(roots, "file"), server_name="other.test")
        with pytest.raises(GrpcError, match=r"UNAVAILABLE: .*Hostname mismatch"):
            await open_call(target, STREAM)
        others = verifying_context(trustme.CA().cert_pem.bytes(), "file")
        with pytest.raises(GrpcError, match=r"UNAVAILABLE: .*certificate verify failed"):
            await open_call(at(address, tls=others, server_name="plane.test"), STREAM)


async def test_tls_server_without_http2_is_refused() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("plane.test").configure_cert(context)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    async with other_server(is_silent, context) as address:
        target = at(address, tls=over_http2(client), server_name="plane.test")
        call = await open_call(target, STREAM)
        with pytest.raises(GrpcError, match="UNAVAILABLE: the server does not offer HTTP/2"):
            await call.receive()


async def test_call_is_closed_while_it_waits() -> None:
    async with serving() as (_, address):
        call = await open_call(at(address), STREAM)
        waiting = asyncio.ensure_future(call.receive())
        await asyncio.sleep(0)
        call.close()
        with pytest.raises(GrpcError, match="CANCELLED"):
            await waiting
