"""The steps between the arrival of a connection and its handler: the client's first bytes choose the filter
chain, and then comes the TLS handshake. A connection that needs neither goes to its handler at once.

    DETECTING -> (a chain with TLS: AWAITING_HANDSHAKE -> HANDSHAKE) -> the handler
"""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from sidecar.config.endpoint import SocketAddress
from sidecar.config.proxy_protocol import Tlv
from sidecar.errors import IdentityError
from sidecar.listener.detect import RAW, Detection, detect
from sidecar.listener.filter_chain import Candidates
from sidecar.timers import Timer
from sidecar.transport.tls import TlsTransport

if TYPE_CHECKING:
    from sidecar.listener.active_listener import ActiveChain, ActiveListener

_LOG = logging.getLogger(__name__)


class AcceptedConnection:
    """A connection that has no handler yet. A PROXY header replaces `remote` and `original_destination`;
    `direct_remote` remains. `accepted_s` is a time of the monotonic clock."""

    __slots__ = (
        "accepted_s",
        "direct_remote",
        "local",
        "original_destination",
        "remote",
        "tlvs",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        remote: SocketAddress,
        local: SocketAddress,
        original_destination: SocketAddress | None,
    ) -> None:
        self.transport = transport
        self.remote = remote
        self.direct_remote = remote
        self.local = local
        self.original_destination = original_destination
        self.tlvs: tuple[Tlv, ...] = ()
        self.accepted_s = time.monotonic()

    @property
    def destination(self) -> SocketAddress:
        return self.original_destination or self.local


class SetupState(Enum):
    DETECTING = "detecting"
    AWAITING_HANDSHAKE = "awaiting the handshake"
    HANDSHAKE = "handshake"
    ENDED = "ended"


DETECTING: Final = SetupState.DETECTING
AWAITING_HANDSHAKE: Final = SetupState.AWAITING_HANDSHAKE
HANDSHAKE: Final = SetupState.HANDSHAKE
ENDED: Final = SetupState.ENDED


class ConnectionSetup:
    """The protocol of a connection before its handler's. It has the methods of an `asyncio.Protocol`.

    The bytes that it reads go to the handler, or to TLS. It reads no further than the detection needs, apart
    from the rest of one read.
    """

    __slots__ = (
        "_candidates",
        "_chain",
        "_data",
        "_detection",
        "_enough_bytes",
        "_http",
        "_listener",
        "_secured",
        "_state",
        "_timer",
        "_tls",
        "accepted",
    )

    def __init__(self, listener: ActiveListener, accepted: AcceptedConnection) -> None:
        self.accepted = accepted
        self._listener = listener
        self._state = AWAITING_HANDSHAKE
        self._candidates: Candidates[ActiveChain] | None = None
        self._tls = False
        self._http = False
        self._data = b""
        self._enough_bytes = 1  # fewer cannot decide
        self._detection: Detection = RAW
        self._chain: ActiveChain | None = None
        self._secured: TlsTransport | None = None
        self._timer: Timer | None = None

    def detect(self, candidates: Candidates[ActiveChain], *, tls: bool, http: bool) -> None:
        """Waits for the bytes that choose among the candidates."""
        self._state = DETECTING
        self._candidates = candidates
        self._tls = tls
        self._http = http
        self._listener.stats.downstream_pre_cx_active += 1
        self._wait_for_bytes(self._listener.config.listener_filters_timeout_s)

    def secure(self, chain: ActiveChain) -> None:
        """Waits for the client to begin its TLS handshake, within the chain's idle timeout. The handshake
        timeout counts from the first byte, since a client may open a connection before it needs it.
        ``transport_socket_connect_timeout``, if set, counts from the start, as in Envoy."""
        self._chain = chain
        config = chain.config
        if config.handshake_timeout_s or self._data:
            self._begin_handshake(chain)
        else:
            self._wait_for_bytes(config.filter.idle_timeout_s)

    def shorten_wait(self) -> None:
        """The listener drains: a client that has not sent its first bytes gets little more time."""
        if self._state is DETECTING or self._state is AWAITING_HANDSHAKE:
            services = self._listener.services
            end_s = services.timers.now_s() + services.drain_timeout_s
            if self._timer is None or self._timer.at_s > end_s:
                self._wait(services.drain_timeout_s)

    def abort(self) -> None:
        began_handshake = self._state is HANDSHAKE
        self._end()
        if not began_handshake:
            self._listener.report_refused(self.accepted, self._detection)
        self.accepted.transport.abort()

    # The methods of an `asyncio.Protocol`.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by tests only: the transport of a listener is connected already."""

    def data_received(self, data: bytes) -> None:
        if self._state is DETECTING:
            self._data = self._data + data if self._data else data
            if len(self._data) >= self._enough_bytes:
                self._look()
        elif self._state is AWAITING_HANDSHAKE and self._chain is not None:
            self._data = data
            self._begin_handshake(self._chain)

    def eof_received(self) -> bool:
        """A client that ends before its protocol is known speaks none that can be detected."""
        if self._state is DETECTING:
            self._choose(RAW)
        elif self._state is AWAITING_HANDSHAKE and self._chain is not None:
            self._begin_handshake(self._chain)
        transport = self.accepted.transport
        protocol = cast("asyncio.Protocol", transport.get_protocol())
        return not transport.is_closing() and bool(protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state is ENDED:
            return
        if exc is not None:
            _LOG.debug("%s: %s broke the connection: %s", self._name, self.accepted.remote, exc)
        self._end()
        self._listener.report_refused(self.accepted, self._detection)

    def pause_writing(self) -> None:
        """Nothing is written here."""

    def resume_writing(self) -> None:
        """Nothing is written here."""

    # The filter chain.

    def _look(self) -> None:
        verdict = detect(self._data, tls=self._tls, http=self._http)
        if isinstance(verdict, Detection):
            self._choose(verdict)
        else:
            self._enough_bytes = verdict.size_bytes

    def _choose(self, detection: Detection) -> None:
        assert self._candidates is not None
        self._stop_waiting()
        self._detection = detection
        chain = self._candidates.choose(detection)
        if chain is None:
            self._end()
            self._listener.refuse_unmatched(self.accepted, detection)
        elif chain.config.tls is not None:
            self._move(AWAITING_HANDSHAKE)
            self.secure(chain)
        else:
            self._end()
            protocol = self._listener.hand_over(chain, self.accepted, detection)
            if self._data and not self.accepted.transport.is_closing():
                protocol.data_received(self._data)

    # TLS.

    def _begin_handshake(self, chain: ActiveChain) -> None:
        self._stop_waiting()
        listener = self._listener
        tls = chain.config.tls
        assert tls is not None
        try:
            context = listener.services.contexts.server(tls)
        except IdentityError as error:
            self._end()
            listener.cannot_serve_tls(self.accepted, self._detection, error)
            return
        self._move(HANDSHAKE)
        secured = self._secured = TlsTransport(
            context, self._identified, server_side=True, on_failed=self._handshake_failed
        )
        self._wait(chain.config.handshake_timeout_s or listener.services.handshake_timeout_s)
        transport = self.accepted.transport
        transport.set_protocol(secured)  # type: ignore[arg-type]  # uvloop needs no base class
        secured.connection_made(transport)
        if self._data:
            secured.data_received(self._data)

    def _identified(self) -> asyncio.Protocol:
        """The handshake is done: returns the handler's protocol. No byte of the client passes before its
        identity was checked. Raises `IdentityError`."""
        assert self._chain is not None
        assert self._secured is not None
        connection = self._listener.identify(
            self._chain.config.tls,
            self.accepted,
            self._detection,
            self._secured.get_extra_info("ssl_object"),
        )
        protocol = self._chain.handler.protocol(connection)
        self._end()
        return protocol

    def _handshake_failed(self, error: Exception) -> None:
        if self._state is not ENDED:
            self._end()
            self._listener.handshake_failed(self.accepted, self._detection, error)

    # Time.

    def _wait_for_bytes(self, timeout_s: float) -> None:
        """``timeout_s`` 0 means no limit, unless the listener drains."""
        if self._listener.draining:
            limit_s = self._listener.services.drain_timeout_s
            timeout_s = min(timeout_s or limit_s, limit_s)
        self._wait(timeout_s)

    def _wait(self, timeout_s: float) -> None:
        self._stop_waiting()
        if timeout_s:
            self._timer = self._listener.services.timers.after(timeout_s, self._expire)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        listener, accepted = self._listener, self.accepted
        self._timer = None
        if self._state is HANDSHAKE:
            assert self._secured is not None
            self._secured.abort()
            self._handshake_failed(TimeoutError("it took too long"))
        elif self._state is AWAITING_HANDSHAKE:
            _LOG.info("%s: %s did not begin a TLS handshake in time", self._name, accepted.remote)
            self.abort()
        elif self._state is DETECTING:
            listener.stats.downstream_pre_cx_timeout += 1
            if listener.config.continue_on_listener_filters_timeout:
                self._choose(RAW)
            else:
                _LOG.info("%s: %s was too slow for its protocol to be detected", self._name, accepted.remote)
                self.abort()

    @property
    def _name(self) -> str:
        return self._listener.config.name

    def _end(self) -> None:
        """The handler owns the connection now, or it is refused."""
        self._stop_waiting()
        self._move(ENDED)
        self._candidates = None
        self._secured = None
        self._listener.set_up(self)

    def _move(self, state: SetupState) -> None:
        if self._state is DETECTING:
            self._listener.stats.downstream_pre_cx_active -= 1
        self._state = state
