"""Where a client was about to go when its connection was redirected here, or what it asked a proxy for.

Source: Envoy's "Original destination" service discovery. An explicit proxy has no redirected connection:
there the request's authority says where to go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import NameResolutionError, NoHealthyUpstreamError
from sidecar.observability.stream_info import DownstreamConnection
from sidecar.upstream.dns.question import Question, Resolve

_HTTP_PORT = 80


async def original_destination(
    connection: DownstreamConnection,
    authority: bytes,
    resolve: Resolve,
    ask: Callable[[str], Question] = Question,
) -> SocketAddress:
    """``ask`` makes a name a question. Raises `NoHealthyUpstreamError` where neither says."""
    if connection.original_destination is not None:
        return connection.original_destination
    name, port = _split_authority(authority)
    if is_ip_address(name):
        return SocketAddress(name, port)
    try:
        answer = await resolve(ask(name))
    except NameResolutionError as error:
        raise NoHealthyUpstreamError(f"the name {name!r} could not be resolved: {error}") from error
    if not answer.addresses:
        raise NoHealthyUpstreamError(f"the name {name!r} has no address")
    return SocketAddress(answer.addresses[0], port)


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
