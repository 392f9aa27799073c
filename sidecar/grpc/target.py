"""The server of a call, and the head of the request to it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from sidecar.build_info import VERSION
from sidecar.config.cluster import TcpKeepalive
from sidecar.config.endpoint import Endpoint
from sidecar.grpc.addresses import Addresses, Replica, system_look_up
from sidecar.grpc.call_stats import ClusterCalls
from sidecar.grpc.errors import GrpcError
from sidecar.grpc_status import GrpcStatus
from sidecar.http.headers import Headers

Metadata = Iterable[tuple[str, str]]

_USER_AGENT: Final = f"outrigger/{VERSION}"
_DEFAULT_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_MAX_TIMEOUT_MS: Final = 99_999_999
_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
# Of all calls of the process: xDS and the CA have the same servers.
_ADDRESSES: Final = Addresses(system_look_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server, whose ``endpoints`` are its replicas. ``server_name``, the name in its certificate, is by
    default the host of the endpoint, and ``authority`` is by default that name, or else the endpoint's
    address. The connect timeout is for each address. Without a ``keepalive_interval_s``, nothing is sent on
    an idle connection. ``calls``: the statistics of the server, if it is a cluster."""

    endpoints: tuple[Endpoint, ...]
    authority: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    user_agent: str = _USER_AGENT
    connect_timeout_s: float = 20.0
    tcp_keepalive: TcpKeepalive | None = None
    keepalive_interval_s: float | None = None
    keepalive_timeout_s: float = 20.0
    max_message_bytes: int = _DEFAULT_MAX_MESSAGE_BYTES
    addresses: Addresses = field(default=_ADDRESSES, repr=False, compare=False)
    calls: ClusterCalls = field(default_factory=ClusterCalls, repr=False, compare=False)

    def __str__(self) -> str:
        return ", ".join(str(endpoint.address) for endpoint in self.endpoints)


def request_headers(
    target: Target, replica: Replica, path: str, metadata: Metadata, timeout_s: float | None
) -> Headers:
    """Source: ``doc/PROTOCOL-HTTP2.md`` of gRPC. Raises `GrpcError` for invalid metadata."""
    headers = [
        (":method", "POST"),
        (":scheme", "http" if target.tls is None else "https"),
        (":path", path),
        (":authority", target.authority or target.server_name or _authority(replica)),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", target.user_agent),
    ]
    if timeout_s is not None:
        headers.append(("grpc-timeout", f"{min(round(timeout_s * 1000), _MAX_TIMEOUT_MS)}m"))
    for name, value in metadata:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise GrpcError(GrpcStatus.INTERNAL, f"the metadata {name!r} has an invalid name or value")
        headers.append((name, value))
    return [(name.encode(), value.encode()) for name, value in headers]


def _authority(replica: Replica) -> str:
    host = f"[{replica.name}]" if ":" in replica.name else replica.name
    return f"{host}:{replica.address.port}"
