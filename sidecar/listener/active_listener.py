"""A listener in service: accepted connections pass detection, TLS and identity before their handler."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, TypeVar, cast

from protos.node import WORKLOAD_CERTIFICATE_SECRET
from sidecar.config.endpoint import SocketAddress, UpstreamSource
from sidecar.config.listener import FilterChain, Listener
from sidecar.config.tls import DownstreamTls
from sidecar.errors import IdentityError, NoFilterChainError, RequestError
from sidecar.identity.contexts import TlsContexts
from sidecar.identity.peer import fingerprint, subject
from sidecar.listener.detect import RAW, TLS, Detection
from sidecar.listener.filter_chain import Candidates, FilterChainMatcher
from sidecar.listener.handler import ConnectionHandler
from sidecar.listener.original_dst import original_destination, plain_address
from sidecar.listener.peek import first_byte, sniff
from sidecar.observability.stats import ListenerStats
from sidecar.observability.stream_info import DownstreamConnection, StreamInfo, fail
from sidecar.transport.tls import TlsTransport

OnRefused = Callable[[StreamInfo], None]

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ActiveChain:
    config: FilterChain
    handler: ConnectionHandler


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedConnection:
    """A connection from which nothing was read yet."""

    sock: socket.socket
    remote: SocketAddress
    local: SocketAddress
    original_destination: SocketAddress | None
    accepted_s: float = field(default_factory=time.monotonic)

    @property
    def destination(self) -> SocketAddress:
        return self.original_destination or self.local


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The objects that all listeners share. ``find_listener`` returns the listener of a redirected
    connection's original destination. ``highest_descriptor`` bounds the number of connections: the kernel
    assigns the lowest free descriptor, so its number tells how many are open."""

    contexts: TlsContexts
    find_listener: Callable[[SocketAddress], ActiveListener | None]
    handshake_timeout_s: float
    drain_timeout_s: float
    highest_descriptor: int
    connection_ids: count[int]


class ActiveListener:
    """Owns the tasks that set up its connections. After setup the handler owns the connection."""

    def __init__(
        self,
        config: Listener,
        chains: Sequence[ActiveChain],
        default_chain: ActiveChain | None,
        stats: ListenerStats,
        services: Services,
        *,
        on_refused: tuple[OnRefused, ...] = (),
    ) -> None:
        self.config: Final = config
        self.stats: Final = stats
        self.chains: Final = (*chains, default_chain) if default_chain is not None else tuple(chains)
        self._matcher: Final = FilterChainMatcher(
            ((chain.config.match, chain) for chain in chains), default_chain
        )
        self._services: Final = services
        self._on_refused: Final = on_refused
        self._setups: Final[set[asyncio.Task[None]]] = set()
        self._waits: Final[set[asyncio.Timeout]] = set()  # for the first bytes of clients
        self._draining = False
        self.admits = True

    def accept(self, sock: socket.socket, remote: SocketAddress) -> None:
        """Takes a connection that arrived at this listener's own socket."""
        if sock.fileno() > self._services.highest_descriptor:
            self.stats.downstream_cx_overflow += 1
            sock.close()
            return
        try:
            local = plain_address(*sock.getsockname()[:2])
        except OSError:  # the client has already disconnected
            sock.close()
            return
        redirected_from = None
        if self.config.original_dst_filter or self.config.use_original_dst:
            redirected_from = original_destination(sock, local)
            if redirected_from is None and self.config.transparent:
                redirected_from = local
        target = self
        if self.config.use_original_dst and redirected_from is not None:
            target = self._services.find_listener(redirected_from) or self
        target.serve(
            AcceptedConnection(sock=sock, remote=remote, local=local, original_destination=redirected_from)
        )

    def serve(self, accepted: AcceptedConnection) -> None:
        """Takes a connection that arrived here, or that another listener passed on."""
        self.stats.downstream_cx_total += 1
        task = asyncio.get_running_loop().create_task(self._set_up(accepted), name="set up a connection")
        self._setups.add(task)
        task.add_done_callback(self._setups.discard)

    @property
    def connections_in_setup(self) -> int:
        return len(self._setups)

    def drain(self) -> None:
        """Shortens the wait for clients that have not sent their first bytes yet."""
        self._draining = True
        for wait in self._waits:
            self._shorten(wait)

    def cancel_setups(self) -> tuple[asyncio.Task[None], ...]:
        """Admits no further connection. The owner awaits the returned tasks."""
        self.admits = False
        setups = tuple(self._setups)
        for task in setups:
            task.cancel()
        return setups

    async def _set_up(self, accepted: AcceptedConnection) -> None:
        handed_over = False
        detection: Detection | None = None
        failure: RequestError | None = None
        try:
            candidates = self._matcher.for_destination(accepted.destination)
            detection = await self._detect(candidates, accepted)
            if detection is None:
                return
            chain = candidates.choose(detection)
            if chain is None:
                self.stats.no_filter_chain_match += 1
                failure = NoFilterChainError(f"no filter chain takes {detection}")
                _LOG.info("%s: %s: no filter chain takes %s", self.config.name, accepted.remote, detection)
                return
            if not await self._has_begun(chain, accepted, detection):
                return
            handed_over = True
            await self._hand_over(chain, accepted, detection)
        except OSError as error:
            _LOG.debug("%s: %s broke the connection: %s", self.config.name, accepted.remote, error)
        finally:
            if not handed_over:
                accepted.sock.close()
                self._report_refused(accepted, detection, failure)

    async def _detect(
        self, candidates: Candidates[ActiveChain], accepted: AcceptedConnection
    ) -> Detection | None:
        """The client's protocol, if a filter chain match depends on it; None when the client was too slow."""
        config = self.config
        tls = config.tls_inspector and candidates.needs_tls
        http = config.http_inspector and candidates.needs_http
        if not tls and not http:
            return RAW
        self.stats.downstream_pre_cx_active += 1
        try:
            first_bytes = sniff(accepted.sock, tls=tls, http=http)
            return await self._wait_for(first_bytes, config.listener_filters_timeout_s)
        except TimeoutError:
            self.stats.downstream_pre_cx_timeout += 1
            if config.continue_on_listener_filters_timeout:
                return RAW
            _LOG.info(
                "%s: %s was too slow for its protocol to be detected",
                config.name,
                accepted.remote,
            )
            return None
        finally:
            self.stats.downstream_pre_cx_active -= 1

    async def _has_begun(
        self, chain: ActiveChain, accepted: AcceptedConnection, detection: Detection
    ) -> bool:
        """Whether the client begins its TLS handshake, if the chain has TLS, within the chain's idle timeout.
        The handshake timeout counts from the first byte, since a client may open a connection before it needs
        it. ``transport_socket_connect_timeout``, if set, counts from the start, as in Envoy."""
        config = chain.config
        if config.tls is None or config.handshake_timeout_s or detection.transport_protocol == TLS:
            return True
        try:
            await self._wait_for(first_byte(accepted.sock), config.filter.idle_timeout_s)
        except TimeoutError:
            _LOG.info("%s: %s did not begin a TLS handshake in time", self.config.name, accepted.remote)
            return False
        return True

    async def _wait_for(self, first_bytes: Coroutine[None, None, T], timeout_s: float) -> T:
        """Waits for a client's first bytes; a timeout of 0 is no limit. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s or None) as wait:
            if self._draining:
                self._shorten(wait)
            self._waits.add(wait)
            try:
                return await first_bytes
            finally:
                self._waits.discard(wait)

    def _shorten(self, wait: asyncio.Timeout) -> None:
        end_s = asyncio.get_running_loop().time() + self._services.drain_timeout_s
        expires_s = wait.when()
        wait.reschedule(end_s if expires_s is None else min(expires_s, end_s))

    async def _hand_over(
        self, chain: ActiveChain, accepted: AcceptedConnection, detection: Detection
    ) -> None:
        """Gives the socket to a transport, which owns it from then on."""
        tls = chain.config.tls
        loop = asyncio.get_running_loop()
        setup = asyncio.current_task()
        assert setup is not None

        def admission() -> asyncio.Protocol:
            return _Admission(self, chain, accepted, detection, setup)

        if tls is None:
            await loop.connect_accepted_socket(admission, accepted.sock)
            return
        timeout_s = chain.config.handshake_timeout_s or self._services.handshake_timeout_s
        try:
            secured = TlsTransport(self._services.contexts.server(tls), admission, server_side=True)
        except IdentityError as error:
            accepted.sock.close()
            self._report_refused(accepted, detection)
            self.stats.ssl__connection_error += 1
            _LOG.warning("%s: cannot serve TLS to %s: %s", self.config.name, accepted.remote, error)
            return
        try:
            async with asyncio.timeout(timeout_s):
                await loop.connect_accepted_socket(lambda: secured, accepted.sock)
                await secured.established()
        except OSError as error:
            secured.abort()
            self._count_handshake_failure(error)
            self._report_refused(accepted, detection)
            _LOG.info(
                "%s: the TLS handshake of client %s failed: %s", self.config.name, accepted.remote, error
            )
        except asyncio.CancelledError:
            secured.abort()
            raise

    def identify(
        self,
        tls: DownstreamTls | None,
        accepted: AcceptedConnection,
        detection: Detection,
        peer: ssl.SSLObject | None,
    ) -> DownstreamConnection:
        """Describes the connection for the layers above. Raises `IdentityError` for a client that does not
        match the validation context."""
        peer_id = local_id = tls_version = alpn = certificate_sha256 = certificate_subject = ""
        if tls is not None and peer is not None:
            peer_id = self._services.contexts.verify_client(tls, peer)
            tls_version = peer.version() or ""
            alpn = peer.selected_alpn_protocol() or ""
            certificate_sha256, certificate_subject = fingerprint(peer), subject(peer)
            svid = self._services.contexts.svid
            if svid is not None and tls.parameters.certificate_secret == WORKLOAD_CERTIFICATE_SECRET:
                local_id = str(svid.spiffe_id)
            self.stats.ssl__handshake += 1
        return DownstreamConnection(
            id=next(self._services.connection_ids),
            remote_address=accepted.remote,
            local_address=accepted.local,
            original_destination=accepted.original_destination,
            upstream_source=self._upstream_source(accepted.remote),
            tls_version=tls_version,
            server_name=detection.server_name,
            alpn=alpn,
            peer_id=peer_id,
            local_id=local_id,
            peer_certificate_sha256=certificate_sha256,
            peer_subject=certificate_subject,
        )

    def _upstream_source(self, client: SocketAddress) -> UpstreamSource | None:
        original_src = self.config.original_src
        if original_src is None:
            return None
        port = client.port if original_src.bind_port else 0
        return UpstreamSource(SocketAddress(client.host, port), original_src.mark)

    def admitted(self, setup: asyncio.Task[None]) -> None:
        """The handler owns the connection now. Cancelling its setup would close it."""
        self._setups.discard(setup)

    def refused(self, accepted: AcceptedConnection, detection: Detection, error: IdentityError) -> None:
        self.stats.ssl__fail_verify_san += 1
        self._report_refused(accepted, detection)
        _LOG.info("%s: client %s refused: %s", self.config.name, accepted.remote, error)

    def _report_refused(
        self, accepted: AcceptedConnection, detection: Detection | None, failure: RequestError | None = None
    ) -> None:
        """Logs a connection that reaches no handler."""
        if not self._on_refused:
            return
        connection = DownstreamConnection(
            id=next(self._services.connection_ids),
            remote_address=accepted.remote,
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

    def _count_handshake_failure(self, error: OSError) -> None:
        reason = getattr(error, "reason", None)
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self.stats.ssl__fail_verify_no_cert += 1
        elif isinstance(error, ssl.SSLCertVerificationError):
            self.stats.ssl__fail_verify_error += 1
        else:
            self.stats.ssl__connection_error += 1


class _Admission(asyncio.Protocol):
    """The protocol of a connection until its client is identified.

    The handler's protocol replaces it within the call that ends the handshake, so that no byte of the client
    passes before its identity was checked.
    """

    def __init__(
        self,
        listener: ActiveListener,
        chain: ActiveChain,
        accepted: AcceptedConnection,
        detection: Detection,
        setup: asyncio.Task[None],
    ) -> None:
        self._listener = listener
        self._chain = chain
        self._accepted = accepted
        self._detection = detection
        self._setup = setup

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from it
        if not self._listener.admits:
            transport.abort()
            return
        try:
            connection = self._listener.identify(
                self._chain.config.tls,
                self._accepted,
                self._detection,
                transport.get_extra_info("ssl_object"),
            )
        except IdentityError as error:
            self._listener.refused(self._accepted, self._detection, error)
            transport.abort()
            return
        self._listener.admitted(self._setup)
        protocol = self._chain.handler.protocol(connection)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
