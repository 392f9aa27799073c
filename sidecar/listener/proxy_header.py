"""Reads the header of the PROXY protocol, with which a connection begins. The connection then goes on as if
it came from the client that the header names. Source: ``envoy.filters.listener.proxy_protocol``."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from sidecar.config.proxy_protocol import ProxyProtocolFilter
from sidecar.listener.detect import RAW
from sidecar.observability.stats import ProxyProtocolStats
from sidecar.proxy_protocol import ProxyHeader, ProxyProtocolError, may_begin_header, read_header
from sidecar.timers import Timer

if TYPE_CHECKING:
    from sidecar.listener.active_listener import ActiveListener
    from sidecar.listener.connection_setup import AcceptedConnection

_LOG = logging.getLogger(__name__)


class ProxyHeaderReader:
    """The protocol of a connection until its header is complete. It has the methods of an
    `asyncio.Protocol`."""

    __slots__ = ("_config", "_data", "_ended", "_enough_bytes", "_listener", "_stats", "_timer", "accepted")

    def __init__(
        self,
        listener: ActiveListener,
        accepted: AcceptedConnection,
        config: ProxyProtocolFilter,
        stats: ProxyProtocolStats,
    ) -> None:
        self.accepted = accepted
        self._listener = listener
        self._config = config
        self._stats = stats
        self._data = bytearray()  # at most a header, and the rest of one read
        self._enough_bytes = 1  # fewer cannot decide
        self._ended = False
        self._timer: Timer | None = None

    def begin(self) -> None:
        self._listener.stats.downstream_pre_cx_active += 1
        if self._listener.draining:
            self.shorten_wait()
        elif timeout_s := self._listener.config.listener_filters_timeout_s:
            self._wait(timeout_s)

    def shorten_wait(self) -> None:
        """The listener drains: a client that has not sent its header gets little more time."""
        services = self._listener.services
        end_s = services.timers.now_s() + services.drain_timeout_s
        if self._timer is None or self._timer.at_s > end_s:
            self._wait(services.drain_timeout_s)

    def abort(self) -> None:
        if self._ended:
            return
        self._end()
        self._listener.report_refused(self.accepted, RAW)
        self.accepted.transport.abort()

    # The methods of an `asyncio.Protocol`.

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) >= self._enough_bytes:
            self._look()

    def eof_received(self) -> bool:
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._end()
            self._listener.report_refused(self.accepted, RAW)

    def pause_writing(self) -> None:
        """Nothing is written here."""

    def resume_writing(self) -> None:
        """Nothing is written here."""

    # The header.

    def _look(self) -> None:
        config, data = self._config, bytes(self._data)
        if config.optional and not may_begin_header(data, config.versions):
            self._stats.not_found_allowed += 1
            self._go_on(data)
            return
        try:
            header = read_header(data)
        except ProxyProtocolError as error:
            self._count(error.version, "error")
            self._refuse(str(error))
            return
        if isinstance(header, int):
            self._enough_bytes = header
        elif header.version not in config.versions:
            self._count(header.version, "disallowed")
            self._refuse(f"version {header.version} of the PROXY protocol is not allowed")
        else:
            self._count(header.version, "found")
            self._take(header)
            self._go_on(data[header.size :])

    def _count(self, version: int, outcome: str) -> None:
        if version == 0:
            self._stats.not_found_disallowed += 1
            return
        name = f"versions__v{version}__{outcome}"
        setattr(self._stats, name, getattr(self._stats, name) + 1)

    def _take(self, header: ProxyHeader) -> None:
        accepted = self.accepted
        types = self._config.tlv_types
        accepted.tlvs = tuple(tlv for tlv in header.tlvs if tlv[0] in types)
        if header.source is not None:
            accepted.remote = header.source
        if header.destination is not None and header.destination != accepted.local:
            accepted.original_destination = header.destination

    def _go_on(self, data: bytes) -> None:
        """``data`` follows the header."""
        self._end()
        self._listener.serve_client(self.accepted)
        transport = self.accepted.transport
        if data and not transport.is_closing():
            cast("asyncio.Protocol", transport.get_protocol()).data_received(data)

    def _refuse(self, reason: str) -> None:
        _LOG.info("%s: %s is refused: %s", self._listener.config.name, self.accepted.direct_remote, reason)
        self.abort()

    # Time.

    def _wait(self, timeout_s: float) -> None:
        self._stop_waiting()
        self._timer = self._listener.services.timers.after(timeout_s, self._expire)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._listener.stats.downstream_pre_cx_timeout += 1
        if self._listener.config.continue_on_listener_filters_timeout:
            self._go_on(bytes(self._data))
        else:
            self._refuse("its PROXY header did not arrive in time")

    def _end(self) -> None:
        self._ended = True
        self._stop_waiting()
        self._listener.stats.downstream_pre_cx_active -= 1
        self._listener.set_up(self)
