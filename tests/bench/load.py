"""Load for the benchmark: wrk where it is installed, else as many keep-alive connections of our own.

python -m tests.bench.load PORT CONNECTIONS SECONDS      prints the number of answers
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import uvloop

# A browser's request to a mesh: twelve headers with Host.
HEADERS = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept": "application/json, text/plain, */*",
    "accept-encoding": "gzip, deflate, br",
    "accept-language": "en-US,en;q=0.9",
    "authorization": "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IkRIRmJwb0lVcXJZOHQyenBBMnFYZkNtcjVWTzVaRXI0In0",
    "cookie": "session=abc123; canary=false; theme=dark",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
    "cache-control": "no-cache",
    "x-user-id": "42",
    "referer": "http://frontend/productpage",
}
PATH = "/api/v1/items?page=2"


def send(port: int, *, connections: int, seconds: float) -> int:
    """Loads 127.0.0.1:`port`; returns how many requests were answered with 200."""
    if shutil.which("wrk"):
        return _wrk(port, connections, seconds)
    command = [sys.executable, "-m", "tests.bench.load", str(port), str(connections), str(seconds)]
    root = Path(__file__).resolve().parents[2]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


def _wrk(port: int, connections: int, seconds: float) -> int:
    headers = [word for name, value in HEADERS.items() for word in ("-H", f"{name}: {value}")]
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        *headers,
        f"http://127.0.0.1:{port}{PATH}",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"the proxy failed requests:\n{output}")
    found = re.search(r"(\d+) requests in", output)
    if found is None:
        raise RuntimeError(f"wrk said nothing of its requests:\n{output}")
    return int(found[1])


class _Client(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last is complete."""

    answered = 0

    def __init__(self, port: int, length: int) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        self._request = f"GET {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{head}\r\n".encode()
        self._length = length
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if separator and len(body) >= self._length:
            assert head.startswith(b"HTTP/1.1 200"), head
            self._buffer = b""
            _Client.answered += 1
            self._transport.write(self._request)


async def _main(port: int, connections: int, seconds: float) -> None:
    from tests.bench.upstream import BODY

    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Client(port, len(BODY)), "127.0.0.1", port)
    await asyncio.sleep(seconds)
    print(_Client.answered)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
