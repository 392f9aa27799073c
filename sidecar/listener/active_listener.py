"""A listener in service: accepted connections pass detection, TLS and identity before their handler."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import count
from typing import Any, Final

from protos.node import WORKLOAD_CERTIFICATE_SECRET
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.listener import FilterChain, Listener
from sidecar.config.tls import DownstreamTls
from sidecar.errors import IdentityError, NoFilterChainError, RequestError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.peer import ANONYMOUS
from sidecar.listener.connection_setup import AcceptedConnection, ConnectionSetup
from sidecar.listener.detect import RAW, Detection
from sidecar.listener.filter_chain import FilterChainMatcher
from sidecar.listener.handler import ConnectionHandler
from sidecar.listener.original_dst import OriginalDestination, plain_address
from sidecar.listener.proxy_header import ProxyHeaderReader
from sidecar.observability.stats import ListenerStats, ProxyProtocolStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo, fail
from sidecar.timers import Timers

OnRefused = Callable[[StreamInfo], None]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveChain:
    config: FilterChain
    handler: ConnectionHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The objects that all listeners share. ``find_listener`` returns the listener of a redirected
    connection's original destination. ``highest_descriptor`` bounds the number of connections: the kernel
    assigns the lowest free descriptor, so its number tells how many are open."""

    contexts: TlsContexts
    timers: Timers
    original_destination: OriginalDestination
    find_listener: Callable[[SocketAddress], ActiveListener | None]
    handshake_timeout_s: float
    drain_timeout_s: float
    highest_descriptor: int
    connection_ids: count[int]


class ActiveListener:
    """Passes each connection to the handler of its filter chain. It owns those that are not there yet."""

    def __init__(
        self,
        config: Listener,
        chains: Sequence[ActiveChain],
        default_chain: ActiveChain | None,
        stats: ListenerStats,
        services: Services,
        *,
        on_refused: tuple[OnRefused, ...] = (),
        proxy_protocol_stats: ProxyProtocolStats | None = None,
    ) -> None:
        self.config: Final = config
        self.stats: Final = stats
        self.services: Final = services
        self.chains: Final = (*chains, default_chain) if default_chain is not None else tuple(chains)
        self._matcher: Final = FilterChainMatcher(
            ((chain.config.match, chain) for chain in chains), default_chain
        )
        self._redirects: Final = config.original_dst_filter or config.use_original_dst
        self._on_refused: Final = on_refused
        self._proxy_protocol: Final = config.proxy_protocol
        self._proxy_protocol_stats: Final = proxy_protocol_stats
        self._setups: Final[set[ConnectionSetup | ProxyHeaderReader]] = set()
        self._last_sockname: tuple[Any, ...] = ()
        self._last_local_address: SocketAddress = config.address
        self._only_local_address: SocketAddress | None = None
        self._has_several_addresses: Final = config.transparent or _is_wildcard(config.address.host)
        self.draining = False
        self._admits = True

    def accept(self, transport: asyncio.Transport) -> None:
        """Takes a connection that arrived at this listener's own socket."""
        sock = transport.get_extra_info("socket")
        peername = transport.get_extra_info("peername")
        if peername is None:  # the client has already disconnected
            self.stats.downstream_cx_total += 1
            transport.abort()
            return
        local, remote = self._local_address(transport), plain_address(peername[0], peername[1])
        if sock.fileno() > self.services.highest_descriptor:
            self.stats.downstream_cx_overflow += 1
            transport.abort()
            _LOG.info("%s: %s is refused: too few file descriptors", self.config.name, remote)
            return
        redirected_from: SocketAddress | None = None
        target: ActiveListener = self
        if self._redirects:
            redirected_from = self.services.original_destination(sock, local)
            if redirected_from is None and self.config.transparent:
                redirected_from = local
            if self._proxy_protocol is None:  # else the header may tell another destination
                target = self._of_destination(redirected_from)
        target.serve(AcceptedConnection(transport, remote, local, redirected_from))

    def _of_destination(self, destination: SocketAddress | None) -> ActiveListener:
        """The listener of a redirected connection."""
        if not self.config.use_original_dst or destination is None:
            return self
        return self.services.find_listener(destination) or self

    def _local_address(self, transport: asyncio.Transport) -> SocketAddress:
        """The address that the client has called: the listener's own, unless that stands for several."""
        if self._only_local_address is not None:
            return self._only_local_address
        sockname = transport.get_extra_info("sockname")
        if sockname != self._last_sockname:  # as a rule, clients call the same address
            self._last_sockname = sockname
            self._last_local_address = plain_address(sockname[0], sockname[1])
        if not self._has_several_addresses:
            self._only_local_address = self._last_local_address
        return self._last_local_address

    def serve(self, accepted: AcceptedConnection) -> None:
        """Takes a connection that arrived here, or that another listener passed on."""
        if not self._admits:
            accepted.transport.abort()
            return
        self.stats.downstream_cx_total += 1
        proxy_protocol, stats = self._proxy_protocol, self._proxy_protocol_stats
        if proxy_protocol is None or stats is None:
            self._choose_chain(accepted)
            return
        reader = ProxyHeaderReader(self, accepted, proxy_protocol, stats)
        self._setups.add(reader)
        accepted.transport.set_protocol(reader)  # type: ignore[arg-type]  # uvloop needs no base class
        reader.begin()

    def serve_client(self, accepted: AcceptedConnection) -> None:
        """Takes a connection whose PROXY header was read."""
        target = self._of_destination(accepted.original_destination)
        if target is self:
            self._choose_chain(accepted)
        else:
            target.serve(accepted)

    def _choose_chain(self, accepted: AcceptedConnection) -> None:
        candidates = self._matcher.for_destination(accepted.destination)
        config = self.config
        tls = config.tls_inspector and candidates.needs_tls
        http = config.http_inspector and candidates.needs_http
        if tls and config.ports_without_tls_inspector:
            tls = not _is_in(accepted.destination.port, config.ports_without_tls_inspector)
        if http and config.ports_without_http_inspector:
            http = not _is_in(accepted.destination.port, config.ports_without_http_inspector)
        if tls or http:
            self._set_up(accepted).detect(candidates, tls=tls, http=http)
            return
        chain = candidates.choose(RAW)
        if chain is None:
            self.refuse_unmatched(accepted, RAW)
        elif chain.config.tls is None:
            self.hand_over(chain, accepted, RAW)
        else:
            self._set_up(accepted).secure(chain)

    def _set_up(self, accepted: AcceptedConnection) -> ConnectionSetup:
        setup = ConnectionSetup(self, accepted)
        self._setups.add(setup)
        accepted.transport.set_protocol(setup)  # type: ignore[arg-type]  # uvloop needs no base class
        return setup

    def set_up(self, setup: ConnectionSetup | ProxyHeaderReader) -> None:
        """The setup has ended: the handler owns the connection, or it is refused."""
        self._setups.discard(setup)

    @property
    def connections_in_setup(self) -> int:
        return len(self._setups)

    def drain(self) -> None:
        """Shortens the wait for clients that have not sent their first bytes yet."""
        self.draining = True
        for setup in self._setups:
            setup.shorten_wait()

    def cancel_setups(self) -> None:
        """Admits no further connection."""
        self._admits = False
        for setup in tuple(self._setups):
            setup.abort()

    def hand_over(
        self, chain: ActiveChain, accepted: AcceptedConnection, detection: Detection
    ) -> asyncio.Protocol:
        """Gives a plaintext connection to its handler, and returns the handler's protocol."""
        protocol = chain.handler.protocol(self.identify(None, accepted, detection, None))
        accepted.transport.set_protocol(protocol)
        protocol.connection_made(accepted.transport)
        return protocol

    def identify(
        self,
        tls: DownstreamTls | None,
        accepted: AcceptedConnection,
        detection: Detection,
        secured: ssl.SSLObject | None,
    ) -> DownstreamConnection:
        """Describes the connection for the layers above. Raises `IdentityError` for a client that does not
        match the validation context."""
        local_id = tls_version = alpn = ""
        peer = ANONYMOUS
        if tls is not None and secured is not None:
            peer = self.services.contexts.verify_client(tls, secured)
            tls_version = secured.version() or ""
            alpn = secured.selected_alpn_protocol() or ""
            svid = self.services.contexts.svid
            if svid is not None and tls.parameters.certificate_secret == WORKLOAD_CERTIFICATE_SECRET:
                local_id = str(svid.spiffe_id)
            self.stats.ssl__handshake += 1
        return DownstreamConnection(
            id=next(self.services.connection_ids),
            remote_address=accepted.remote,
            direct_remote_address=accepted.direct_remote,
            local_address=accepted.local,
            original_destination=accepted.original_destination,
            tlvs=accepted.tlvs,
            upstream_source=self._upstream_source(accepted.remote),
            tls_version=tls_version,
            server_name=detection.server_name,
            alpn=alpn,
            peer_id=peer.id,
            local_id=local_id,
            peer_certificate_sha256=peer.certificate_sha256,
            peer_subject=peer.subject,
        )

    def _upstream_source(self, client: SocketAddress) -> UpstreamSource | None:
        original_src = self.config.original_src
        if original_src is None:
            return None
        port = client.port if original_src.bind_port else 0
        return UpstreamSource(SocketAddress(client.host, port), original_src.mark)

    # Connections that reach no handler.

    def refuse_unmatched(self, accepted: AcceptedConnection, detection: Detection) -> None:
        self.stats.no_filter_chain_match += 1
        accepted.transport.abort()
        self.report_refused(accepted, detection, NoFilterChainError(f"no filter chain takes {detection}"))
        _LOG.info("%s: %s: no filter chain takes %s", self.config.name, accepted.remote, detection)

    def cannot_serve_tls(
        self, accepted: AcceptedConnection, detection: Detection, error: IdentityError
    ) -> None:
        self.stats.ssl__connection_error += 1
        accepted.transport.abort()
        self.report_refused(accepted, detection)
        _LOG.warning("%s: cannot serve TLS to %s: %s", self.config.name, accepted.remote, error)

    def handshake_failed(self, accepted: AcceptedConnection, detection: Detection, error: Exception) -> None:
        """`error` is an `IdentityError` if the client does not match the validation context."""
        self._count_handshake_failure(error)
        self.report_refused(accepted, detection)
        if isinstance(error, IdentityError):
            _LOG.info("%s: client %s refused: %s", self.config.name, accepted.remote, error)
        else:
            _LOG.info(
                "%s: the TLS handshake of client %s failed: %s", self.config.name, accepted.remote, error
            )

    def report_refused(
        self, accepted: AcceptedConnection, detection: Detection | None, failure: RequestError | None = None
    ) -> None:
        """Logs a connection that reaches no handler."""
        if not self._on_refused:
            return
        connection = DownstreamConnection(
            id=next(self.services.connection_ids),
            remote_address=accepted.remote,
            direct_remote_address=accepted.direct_remote,
            local_address=accepted.local,
            original_destination=accepted.original_destination,
            server_name=detection.server_name if detection is not None else "",
        )
        now_s = time.monotonic()
        info = StreamInfo(connection, accepted.accepted_s, time.time() - now_s + accepted.accepted_s)
        info.protocol, info.end_s = "", now_s
        if failure is not None:
            fail(info, failure)
        for on_refused in self._on_refused:
            on_refused(info)

    def _count_handshake_failure(self, error: Exception) -> None:
        reason = getattr(error, "reason", None)
        if isinstance(error, IdentityError):
            self.stats.ssl__fail_verify_san += 1
        elif reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self.stats.ssl__fail_verify_no_cert += 1
        elif isinstance(error, ssl.SSLCertVerificationError):
            self.stats.ssl__fail_verify_error += 1
        else:
            self.stats.ssl__connection_error += 1


def _is_in(port: int, ranges: tuple[range, ...]) -> bool:
    return any(port in each for each in ranges)


def _is_wildcard(host: str) -> bool:
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_unspecified
