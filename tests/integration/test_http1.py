"""HTTP/1.1 through real sockets: curl, large bodies, tunnels, clients and upstreams that leave."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import ssl

import pytest
import trustme

from tests.support.echo_upstream import echo
from tests.support.http1_proxy import proxy, read_head, upstream
from tests.support.listening import eventually

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


MIB = 1024 * 1024


# What the kernel buffers of two loopback connections, and each codec its high water.
IN_FLIGHT_BYTES = 24 * MIB


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-S", "-i", "--max-time", "10", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@needs_curl
async def test_curl_of_every_kind() -> None:
    async with upstream(echo) as port, proxy(port) as sidecar:
        url = f"http://127.0.0.1:{sidecar.port}"
        assert "x-line: GET /a HTTP/1.1" in await curl(f"{url}/a")
        assert (await curl("-d", "hello", url)).endswith("\r\n\r\nhello")
        assert (await curl("-H", "Transfer-Encoding: chunked", "-d", "hello", url)).endswith("\r\n\r\nhello")
        assert "content-length: 10" in await curl("-I", url)
        assert "HTTP/1.1 100 Continue" in await curl("-H", "Expect: 100-continue", "-d", "hello", url)
        assert "200 OK" in await curl("-0", url)
        assert "200 OK" in await curl("--http2", "-d", "hello", url)  # an offer of h2c, declined
        assert "x-line: GET /x HTTP/1.1" in await curl("-x", url, "http://reviews:9080/x")
        assert len(sidecar.host.opened) == 1


async def test_chunks_and_trailers_pass_both_ways() -> None:
    received: list[bytes] = []

    async def summing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        received.append(await reader.readuntil(b"0\r\nx-sum: 1\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n")
        await reader.read(1)

    async with upstream(summing) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        writer.write(b"0\r\nX-Sum: 1\r\n\r\n")
        await read_head(reader)
        assert await reader.readuntil(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nx-t: 1\r\n\r\n"
        assert received == [b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"]
        writer.close()


async def test_connection_to_the_upstream_is_reused() -> None:
    async with upstream(echo) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        for _ in range(20):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
            for _ in range(5):
                line, _ = await read_head(reader)
                assert line == b"HTTP/1.1 200 OK"
        assert len(sidecar.host.opened) == 1
        writer.close()


async def test_bodies_of_all_sizes_pass_unchanged_on_one_connection() -> None:
    async with upstream(echo) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        for size in (3 * MIB, 1, 300_000, 0, MIB, 2 * MIB + 1, 5):
            body = random.Random(size).randbytes(size)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, body))
            _, fields = await read_head(reader)
            assert await reader.readexactly(int(fields[b"content-length"])) == body
        for size in (3 * MIB, 300_000, MIB):  # small ones would be sent on with their length
            body = random.Random(size).randbytes(size)
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size)
            writer.write(body + b"\r\n0\r\n\r\n")
            await read_head(reader)
            received = b""
            while piece := int(await reader.readline(), 16):
                received += await reader.readexactly(piece)
                await reader.readline()
            assert await reader.readline() == b"x-t: 1\r\n"
            await reader.readline()
            assert received == body
        assert len(sidecar.host.opened) == 1
        writer.close()


async def test_large_upload_to_a_slow_upstream_is_held_back() -> None:
    total, received, ahead = 64 * MIB, 0, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received, ahead
        await read_head(reader)
        while received < total:
            received += len(await reader.read(32 * 1024))
            ahead = max(ahead, sidecar.stats.downstream_cx_rx_bytes_total - received)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.read(1)

    async with upstream(slow) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // MIB):
            writer.write(b"x" * MIB)
            await writer.drain()
        assert (await read_head(reader))[0] == b"HTTP/1.1 200 OK"
        assert received == total
        assert ahead < IN_FLIGHT_BYTES
        assert len(sidecar.host.idle) == 1
        writer.close()


async def test_large_download_to_a_slow_client_is_held_back() -> None:
    total, sent, ahead, received = 64 * MIB, 0, 0, 0

    async def fast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(total // MIB):
            writer.write(b"100000\r\n" + b"x" * MIB + b"\r\n")
            await writer.drain()
            sent += MIB
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        await reader.read(1)

    async with upstream(fast) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port, limit=64 * 1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await read_head(reader)
        while size := int(await reader.readline(), 16):
            received += len(await reader.readexactly(size))
            await reader.readline()
            ahead = max(ahead, sent - received)
        assert received == total
        assert ahead < IN_FLIGHT_BYTES
        await eventually(lambda: len(sidecar.host.idle) == 1)
        writer.close()


async def test_client_that_stops_reading_loses_its_connection() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with upstream(endless) as port, proxy(port, stream_idle_timeout_s=0.3) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await eventually(lambda: running.stats.downstream_cx_active == 1)
            await eventually(lambda: running.stats.downstream_cx_active == 0)
            assert running.stats.downstream_rq_active == 0
            assert all(connection.closed for connection in running.host.opened)


async def test_client_that_leaves_frees_the_upstream() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        asked.set()
        await reader.read()
        left.set()

    async with upstream(silent) as port, proxy(port) as sidecar:
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(asked.wait(), 10)
        writer.close()
        await asyncio.wait_for(left.wait(), 10)
        await eventually(lambda: sidecar.manager.stats.downstream_rq_active == 0)
        assert sidecar.stats.downstream_rq_rx_reset == 1


async def test_upstream_that_dies_within_a_chunked_body_cuts_the_answer() -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()

    async with upstream(dies) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert not answer.endswith(b"0\r\n\r\n")
        writer.close()


async def test_upstream_that_refuses() -> None:
    async with upstream(echo) as port:
        pass
    async with proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await read_head(reader))[0] == b"HTTP/1.1 503 Service Unavailable"
        writer.close()


async def test_error_reply_reaches_a_client_that_is_still_sending() -> None:
    async with upstream(echo) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n" + b"x" * MIB)
        assert (await read_head(reader))[0] == b"HTTP/1.1 501 Not Implemented"
        writer.close()


async def test_slow_head_is_given_up() -> None:
    async with upstream(echo) as port, proxy(port, request_headers_timeout_s=0.1) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        assert (await read_head(reader))[0] == b"HTTP/1.1 408 Request Timeout"
        writer.close()


async def test_websocket_tunnel_with_half_close() -> None:
    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, fields = await read_head(reader)
        assert fields[b"upgrade"] == b"websocket"
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        data = await reader.read()  # until the client has ended its direction
        writer.write(data[::-1])
        await writer.drain()

    async with upstream(switch) as port, proxy(port, upgrades=frozenset({"websocket"})) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc")
        line, fields = await read_head(reader)
        assert line == b"HTTP/1.1 101 Switching Protocols"
        assert fields[b"connection"] == b"upgrade"
        writer.write(b"def")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b"fedcba"
        writer.close()
        await eventually(lambda: sidecar.manager.active_connections == 0)
        assert sidecar.host.idle == []


async def test_client_of_a_tunnel_goes_on_after_the_upstreams_end() -> None:
    received = asyncio.get_running_loop().create_future()

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye"
        )
        writer.write_eof()
        received.set_result(await reader.read())

    async with upstream(switch) as port, proxy(port, upgrades=frozenset({"websocket"})) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await read_head(reader)
        assert await asyncio.wait_for(reader.read(), 10) == b"bye"
        writer.write(bytes(1_000_000))
        await writer.drain()
        writer.close()
        assert len(await asyncio.wait_for(received, 10)) == 1_000_000
        await eventually(lambda: sidecar.manager.active_connections == 0)


async def test_tls_where_half_close_is_not_possible() -> None:
    """A tunnel ends as a whole, and an error reply is read before the connection ends."""

    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        writer.write((await reader.readexactly(3))[::-1])
        await writer.drain()

    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with upstream(switch) as port, proxy(port, server, upgrades=frozenset({"websocket"})) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port, ssl=client)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc")
        await read_head(reader)
        assert await asyncio.wait_for(reader.read(), 10) == b"cba"
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port, ssl=client)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + b"x" * MIB)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400 Bad Request")
        writer.close()
        await eventually(lambda: sidecar.manager.active_connections == 0)


async def test_drain_lets_active_requests_finish() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await reader.read(1)

    async with upstream(held) as port, proxy(port) as sidecar:
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(asked.wait(), 10)
        sidecar.manager.drain()
        answer.set()
        _, fields = await read_head(reader)
        assert fields[b"connection"] == b"close"
        assert await asyncio.wait_for(reader.read(), 10) == b"ok"
        await asyncio.wait_for(sidecar.manager.wait_closed(), 10)
        writer.close()
