"""Servers and clients in pods' network namespaces that report who called them; no kubelet is needed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.node_agent.commands import run
from tests.support.node_agent.network import PodInterface

ECHO_PORT = 9000

# Answers every TCP connection and every datagram with its own name and the caller's address.
SERVER = """
import asyncio, sys

async def converse(reader, writer):
    writer.write(f"{sys.argv[1]} saw {writer.get_extra_info('peername')[0]}".encode())
    writer.close()

class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(f"{sys.argv[1]} saw {address[0]}".encode(), address)

async def main():
    at = "0.0.0.0", int(sys.argv[2])
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, at)
    async with await asyncio.start_server(converse, *at) as server:
        print("ready", flush=True)
        await server.serve_forever()

asyncio.run(main())
"""

# Prints the answers of many conversations with one address, or the failure's name and how long it took.
CLIENT = """
import socket, sys, time

kind, host, port, times = socket.SocketKind[sys.argv[1]], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(times):
    start_s = time.monotonic()
    try:
        with socket.socket(socket.AF_INET, kind) as caller:
            caller.settimeout(5)
            caller.connect((host, port))
            if kind == socket.SOCK_DGRAM:
                caller.send(b"?")
            print(caller.recv(1000).decode())
    except OSError as error:
        print(type(error).__name__, "at once" if time.monotonic() - start_s < 4 else "late")
"""


@asynccontextmanager
async def echo(pod: PodInterface, name: str) -> AsyncIterator[None]:
    """A server on ECHO_PORT, TCP and UDP; it listens as soon as the block begins."""
    process = await asyncio.create_subprocess_exec(
        *in_namespace(pod), sys.executable, "-c", SERVER, name, str(ECHO_PORT), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.communicate()


async def start_sleeper(pod: PodInterface) -> asyncio.subprocess.Process:
    """It is in the pod, and does nothing until it is killed."""
    process = await asyncio.create_subprocess_exec(
        *in_namespace(pod), "sh", "-c", "echo ready; exec sleep 600", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def call(
    pod: PodInterface, host: str, port: int = ECHO_PORT, *, times: int = 1, kind: str = "SOCK_STREAM"
) -> list[str]:
    """The result of each conversation: `<name> saw <address>`, or an error's name, `at once` or `late`."""
    arguments = [kind, host, str(port), str(times)]
    return (await run(*in_namespace(pod), sys.executable, "-c", CLIENT, *arguments)).splitlines()


async def run_with_names(pod: PodInterface, resolv_conf: Path, *command: str) -> str:
    """The command's output in the pod, with the file as its /etc/resolv.conf.

    `ip netns exec` gives it a mount namespace, so that other processes do not see this one.
    """
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return await run(*in_namespace(pod), "sh", "-c", script, str(resolv_conf), *command)


def in_namespace(pod: PodInterface) -> list[str]:
    return ["ip", "netns", "exec", pod.namespace]
