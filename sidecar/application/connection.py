"""Connections of the sidecar to the application in its pod."""

from __future__ import annotations

import asyncio
import socket
import ssl
from ipaddress import ip_address
from typing import Final, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.http.h1.client import Http1ClientConnection
from sidecar.listener.listen_socket import is_local
from sidecar.upstream.connection import ClientConnection

# The rules of interception let a connection pass that comes from here. Without it, they redirect a connection
# of the sidecar to its own pod to the inbound listener, as if the application called its own service.
SOURCES: Final = {socket.AF_INET: "127.0.0.6", socket.AF_INET6: "::6"}


async def open_socket(address: SocketAddress) -> socket.socket:
    """Connects to an IP address or a name. The source address is only usable for an address of this pod, and
    if it exists: ``::6`` is missing outside a pod whose traffic is intercepted. Raises `OSError`."""
    family, target = await _resolve(address)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_local(target[0]) and is_local(SOURCES[family]):
            sock.bind((SOURCES[family], 0))
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(address: SocketAddress) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        version = ip_address(address.host).version
    except ValueError:
        pass
    else:
        return socket.AF_INET if version == 4 else socket.AF_INET6, (address.host, address.port)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, _, _, _, target in found:
        if family in SOURCES:
            return family, (str(target[0]), int(target[1]))
    raise OSError(f"{address.host} has no IP address")


async def open_http(address: SocketAddress, tls: ssl.SSLContext | None) -> ClientConnection:
    """A connection for HTTP/1.1 requests; the caller closes it. Raises `OSError`."""
    sock = await open_socket(address)
    codec = Http1ClientConnection()
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: cast("asyncio.BaseProtocol", codec),
            sock=sock,
            ssl=tls,
            server_hostname=address.host if tls is not None else None,
        )
    except BaseException:
        sock.close()
        raise
    return codec


def unverified_tls() -> ssl.SSLContext:
    """For probes: like the kubelet, they do not verify the application's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
