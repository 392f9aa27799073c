"""The actions of probes and hooks: HTTP and gRPC requests, TCP connections, commands."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from tests.support.kubernetes_api import Resource
from tests.support.node_agent.container import Container

USER_AGENT = "kube-probe/1.0"
# grpc.health.v1.HealthCheckResponse{status: SERVING}, and HealthCheckRequest's field `service`.
SERVING = b"\x08\x01"
SERVICE_TAG = b"\x0a"


class ActionError(Exception):
    """It failed; the message says how."""


async def act(
    action: Resource, container: Resource, process: Container, address: str, timeout_s: float | None
) -> None:
    """Executes a probe or a hook of the container. `address` is the pod's.

    Raises ActionError, also when it takes longer than `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if command := action.get("exec"):
                await run(process, command["command"])
            elif http := action.get("httpGet"):
                await http_get(http, http.get("host") or address, port_of(http, container))
            elif tcp := action.get("tcpSocket"):
                await connect(tcp.get("host") or address, port_of(tcp, container))
            elif health := action.get("grpc"):
                await check_health(health.get("service") or "", address, health["port"])
            else:
                await asyncio.sleep(action["sleep"]["seconds"])
    except TimeoutError:
        raise ActionError(f"timed out after {timeout_s} s") from None


def port_of(action: Resource, container: Resource) -> int:
    """A port may be given by the name that the container has for it."""
    port = action["port"]
    if isinstance(port, int):
        return port
    for known in container.get("ports", ()):
        if known.get("name") == port:
            return int(known["containerPort"])
    raise ActionError(f"the container has no port named {port!r}")


async def run(process: Container, command: list[str]) -> None:
    code, output = await process.run(command)
    if code != 0:
        raise ActionError(output.strip() or f"command failed with exit code {code}")


async def http_get(action: Resource, host: str, port: int) -> None:
    """A status from 200 to 399 is a success, with any certificate."""
    scheme = action.get("scheme", "HTTP").lower()
    headers = [(each["name"], each["value"]) for each in action.get("httpHeaders", ())]
    names = {name.lower() for name, _ in headers}
    if "user-agent" not in names:
        headers.append(("User-Agent", USER_AGENT))
    path = action.get("path", "/")
    url = f"{scheme}://{host}:{port}/{path.removeprefix('/')}"
    try:
        async with (
            ClientSession(connector=TCPConnector(ssl=False), timeout=ClientTimeout(total=None)) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if not 200 <= answer.status < 400:
                raise ActionError(f"HTTP probe failed with statuscode: {answer.status}")
    except (ClientError, OSError) as error:
        raise ActionError(f'Get "{url}": {error}') from error


async def connect(host: str, port: int) -> None:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ActionError(f"dial tcp {host}:{port}: {error}") from error
    writer.close()
    with suppress(OSError):  # the connection was accepted: a success
        await writer.wait_closed()


async def check_health(service: str, address: str, port: int) -> None:
    """Asks grpc.health.v1, whose messages are small enough to be written by hand."""
    name = service.encode()
    request = SERVICE_TAG + bytes([len(name)]) + name if name else b""
    async with grpc.aio.insecure_channel(f"{address}:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = await check(request)
        except grpc.aio.AioRpcError as error:
            raise ActionError(f"{address}:{port}: {error.code().name}: {error.details()}") from error
    if answer != SERVING:
        raise ActionError(f"{address}:{port}: service {service!r} is not serving")
