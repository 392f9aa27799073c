"""An HTTP/1.1 upstream that answers each request with its own body."""

from __future__ import annotations

import asyncio

from tests.support.http1_proxy import read_head


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own body, in the framing that it came in."""
    while True:
        line, fields = await read_head(reader)
        if b"transfer-encoding" in fields:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readuntil(b"\r\n")
        else:
            body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        head = b"HTTP/1.1 200 OK\r\nx-line: %b\r\n" % line
        if line.startswith(b"HEAD"):
            writer.write(head + b"content-length: 10\r\n\r\n")
        elif b"transfer-encoding" in fields:
            writer.write(
                head
                + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nx-t: 1\r\n\r\n" % (len(body), body)
            )
        else:
            writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
