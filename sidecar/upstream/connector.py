"""Opens all connections of the data path to hosts: TCP, its options, TLS, the verification of the peer.

Source: ``connect_timeout``, ``upstream_bind_config``, ``upstream_connection_options.tcp_keepalive`` and
``transport_socket`` of ``envoy.config.cluster.v3.Cluster``. The reasons in errors have the same text as
Envoy's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from sidecar.config.cluster import ClusterConfig, TransportSocketMatch
from sidecar.config.endpoint import Endpoint, SocketAddress, UpstreamSource
from sidecar.config.proxy_protocol import UpstreamProxyProtocol
from sidecar.config.tls import ServerNames, UpstreamTls
from sidecar.errors import IdentityError, UpstreamConnectError
from sidecar.observability.stats import ClusterStats
from sidecar.transport.tls import TlsTransport
from sidecar.transport.transparent import bind_source, make_transparent
from sidecar.upstream.client_sessions import ClientSessions
from sidecar.upstream.tcp_keepalive import set_tcp_keepalive

ProtocolT = TypeVar("ProtocolT")


class ClientTls(Protocol):
    """The part of the identity layer that connections to hosts use. Both methods raise `IdentityError`."""

    def client(self, tls: UpstreamTls) -> ssl.SSLContext:
        """The current context; another object after a rotation."""

    def verify_server(self, tls: UpstreamTls, peer: ssl.SSLObject, name: str | None) -> str:
        """Returns the peer's SPIFFE URI, empty if it has none. `name`, where set: its certificate must be for
        this name too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialed:
    """An open connection. `context` is None in plaintext; `peer_id` is the host's SPIFFE URI, empty if it has
    none."""

    transport: asyncio.Transport
    context: ssl.SSLContext | None
    peer_id: str
    local_address: SocketAddress


def tls_for(config: ClusterConfig, endpoint: Endpoint) -> UpstreamTls | None:
    return _socket_for(config, endpoint).tls


def proxy_protocol_for(config: ClusterConfig, endpoint: Endpoint) -> UpstreamProxyProtocol | None:
    return _socket_for(config, endpoint).proxy_protocol


def _socket_for(config: ClusterConfig, endpoint: Endpoint) -> TransportSocketMatch | ClusterConfig:
    """The first transport socket match that the endpoint's labels satisfy, or else the cluster's socket."""
    labels = endpoint.tls_match.items()
    for candidate in config.transport_socket_matches:
        if candidate.match.items() <= labels:
            return candidate
    return config


class Connector:
    """Dials the hosts of one cluster."""

    __slots__ = ("_keepalive", "_loop", "_sessions", "_sources", "_stats", "_timeout_s", "_tls")

    def __init__(
        self, config: ClusterConfig, stats: ClusterStats, tls: ClientTls, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._timeout_s = config.connect_timeout_s
        self._keepalive = config.tcp_keepalive
        self._sources = config.source_addresses
        self._stats = stats
        self._tls = tls
        self._loop = loop
        self._sessions = ClientSessions()

    def context(self, tls: UpstreamTls | None) -> ssl.SSLContext | None:
        """The TLS context for new connections, None for plaintext. Raises `IdentityError`."""
        return self._tls.client(tls) if tls is not None else None

    async def dial(
        self,
        address: SocketAddress,
        tls: UpstreamTls | None,
        factory: Callable[[str], ProtocolT],
        source: UpstreamSource | None = None,
        names: ServerNames | None = None,
    ) -> tuple[ProtocolT, Dialed]:
        """Opens a connection, TLS handshake and verification of the peer included. `factory` makes the
        asyncio protocol, from the ALPN protocol that the host chose (RFC 7301): empty in plaintext, or if it
        chose none. As in Envoy, `source` takes precedence over the cluster's source addresses, and `names`
        over the configured SNI.

        Raises `UpstreamConnectError`: refused, unreachable, not trusted, or not ready within the connect
        timeout.
        """
        try:
            context = self.context(tls)
            async with asyncio.timeout(self._timeout_s):
                if context is None or tls is None:
                    transport, protocol = await self._connect(address, lambda: factory(""), source)
                else:
                    found = None if names is None else names.sni
                    sni = tls.sni if found is None else found
                    transport, protocol = await self._connect_tls(address, factory, context, sni, source)
            if self._keepalive is not None:
                set_tcp_keepalive(transport, self._keepalive)
        # TimeoutError and ssl.SSLError are OSErrors; an invalid name of the host, or an invalid SNI, is a
        # ValueError.
        except (OSError, IdentityError, ValueError) as error:
            raise self._failed(error) from error
        peer_id = ""
        if tls is not None:
            peer_id = self._verify(tls, transport, None if names is None else names.san)
        local = SocketAddress(*transport.get_extra_info("sockname")[:2])
        dialed = Dialed(transport=transport, context=context, peer_id=peer_id, local_address=local)
        return protocol, dialed

    async def _connect(
        self, address: SocketAddress, factory: Callable[[], ProtocolT], source: UpstreamSource | None
    ) -> tuple[asyncio.Transport, ProtocolT]:
        make_protocol = cast("Callable[[], asyncio.BaseProtocol]", factory)
        if source is None and not self._sources:
            transport, protocol = await self._loop.create_connection(
                make_protocol, address.host, address.port
            )
            return transport, cast("ProtocolT", protocol)
        sock = await self._connect_from(source, address)
        try:
            transport, protocol = await self._loop.create_connection(make_protocol, sock=sock)
        except BaseException:
            sock.close()
            raise
        return transport, cast("ProtocolT", protocol)

    async def _connect_from(self, source: UpstreamSource | None, address: SocketAddress) -> socket.socket:
        """A connected socket that is bound to the source, or else to an address of the cluster. The PROXY
        header was sent."""
        is_ipv6 = ":" in address.host
        sock = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            client = source.address if source is not None else None
            if source is not None and client is not None and (":" in client.host) == is_ipv6:
                if source.mark:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, source.mark)
                make_transparent(sock)
                bind_source(sock, client.host, client.port)
            elif self._sources:
                bind_source(sock, _of_family(self._sources, is_ipv6), 0)
            await self._loop.sock_connect(sock, (address.host, address.port))
            if source is not None and source.proxy_header:
                await self._loop.sock_sendall(sock, source.proxy_header)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_tls(
        self,
        address: SocketAddress,
        factory: Callable[[str], ProtocolT],
        context: ssl.SSLContext,
        sni: str,
        source: UpstreamSource | None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        protocol: ProtocolT | None = None

        def make_protocol() -> asyncio.BaseProtocol:
            nonlocal protocol
            alpn: str | None = secured.get_extra_info("ssl_object").selected_alpn_protocol()
            protocol = factory(alpn or "")
            return cast("asyncio.BaseProtocol", protocol)

        def save_session(connection: ssl.SSLObject) -> None:
            if sessions.wants(key, context, reused=bool(connection.session_reused)):
                sessions.save(key, context, connection)

        sessions, key = self._sessions, (address, sni)
        secured = TlsTransport(
            context,
            make_protocol,
            server_side=False,
            server_hostname=sni or None,
            session=sessions.of(key, context),
            on_first_data=save_session,
        )
        try:
            await self._connect(address, lambda: secured, source)
            await secured.established()
        except BaseException:
            secured.abort()
            raise
        assert protocol is not None  # made at the end of the handshake; the connection may be lost again
        return cast("asyncio.Transport", secured), protocol

    def _verify(self, tls: UpstreamTls, transport: asyncio.Transport, name: str | None) -> str:
        try:
            peer_id = self._tls.verify_server(tls, transport.get_extra_info("ssl_object"), name)
        except IdentityError as error:
            transport.abort()
            self._stats.ssl__fail_verify_san += 1
            raise self._failed(error) from error
        self._stats.ssl__handshake += 1
        return peer_id

    def _failed(self, error: OSError | IdentityError | ValueError) -> UpstreamConnectError:
        stats = self._stats
        stats.upstream_cx_connect_fail += 1
        if isinstance(error, TimeoutError):
            stats.upstream_cx_connect_timeout += 1
        elif isinstance(error, ssl.SSLCertVerificationError):
            stats.ssl__fail_verify_error += 1
        elif isinstance(error, ssl.SSLError):
            stats.ssl__connection_error += 1
        return UpstreamConnectError(_reason(error))


def _of_family(addresses: tuple[str, ...], is_ipv6: bool) -> str:
    """Envoy's choice: the first address of the host's family, or else the first one."""
    return next((address for address in addresses if (":" in address) == is_ipv6), addresses[0])


def _reason(error: OSError | IdentityError | ValueError) -> str:
    if isinstance(error, IdentityError):
        return f"TLS_error: {error}"
    if isinstance(error, ValueError) and not isinstance(error, OSError):  # ssl's verification error is both
        return f"the host's name or its SNI is not valid: {error}"
    if isinstance(error, ssl.SSLError):
        return f"TLS_error: {error.reason or error}"
    if isinstance(error, TimeoutError) and error.errno is None:
        return "connection timeout"
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return f"delayed connect error: {reason}"
