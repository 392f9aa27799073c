"""The address to which a client connected before its connection was redirected here.

Source: Envoy's "Original destination" service discovery. A client that is configured with a proxy is not
redirected: then the authority of its request is the destination.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from sidecar.authority import split_authority
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
    """``ask`` turns a name into a question. Raises `NoHealthyUpstreamError` if the destination is missing,
    or cannot be resolved."""
    if connection.original_destination is not None:
        return connection.original_destination
    try:
        name, port = split_authority(authority)
    except ValueError as error:
        given = authority.decode("latin-1")
        raise NoHealthyUpstreamError(f"the authority {given!r:.300} is not valid: {error}") from None
    port = port or _HTTP_PORT
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
