"""Where a client was about to go when its connection was redirected here, or what it asked a proxy for.

Source: Envoy's "Original destination" service discovery. An explicit proxy has no redirected connection:
there the request's authority says where to go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import NoHealthyUpstreamError
from sidecar.observability.stream_info import Connection
from sidecar.upstream.environment import Resolver

_HTTP_PORT = 80
_NAME_LIFETIME_S = 5.0
_MAX_NAMES = 1024


class NameCache:
    """A `Resolver` that remembers for a moment, so that not every request through an explicit proxy waits
    for a name server. Bounded: the names are the clients'."""

    def __init__(
        self,
        resolve: Resolver,
        now_s: Callable[[], float],
        *,
        lifetime_s: float = _NAME_LIFETIME_S,
        capacity: int = _MAX_NAMES,
    ) -> None:
        self._resolve = resolve
        self._now_s = now_s
        self._lifetime_s = lifetime_s
        self._capacity = capacity
        self._known: dict[str, tuple[float, Sequence[str]]] = {}

    async def __call__(self, name: str) -> Sequence[str]:
        known = self._known.get(name)
        if known is not None and self._now_s() < known[0]:
            return known[1]
        addresses = await self._resolve(name)
        self._known.pop(name, None)
        if len(self._known) >= self._capacity:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[name] = (self._now_s() + self._lifetime_s, addresses)
        return addresses


async def original_destination(connection: Connection, authority: bytes, resolve: Resolver) -> SocketAddress:
    """Raises `NoHealthyUpstreamError` where neither says."""
    if connection.original_destination is not None:
        return connection.original_destination
    name, port = _split_authority(authority)
    if is_ip_address(name):
        return SocketAddress(name, port)
    try:
        addresses = await resolve(name)
    except OSError as error:
        raise NoHealthyUpstreamError(f"the name {name!r} could not be resolved: {error}") from error
    if not addresses:
        raise NoHealthyUpstreamError(f"the name {name!r} has no address")
    return SocketAddress(addresses[0], port)


def is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _split_authority(authority: bytes) -> tuple[str, int]:
    """``name``, ``name:port`` or ``[IPv6]:port``."""
    text = authority.decode("latin-1")
    name, colon, port_text = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, port_text = text, str(_HTTP_PORT)
    name = name.removeprefix("[").removesuffix("]")
    if not name or not (port_text.isascii() and port_text.isdigit()) or not 0 < int(port_text) < 65536:
        raise NoHealthyUpstreamError(f"neither the connection nor {text!r} says where the request is to go")
    return name, int(port_text)
