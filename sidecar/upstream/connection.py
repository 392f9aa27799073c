"""The seam between the pools and the codecs: one connection to a host, of any HTTP version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sidecar.config.codec_type import CodecType
from sidecar.config.http2 import DEFAULT_HTTP2, Http2Options
from sidecar.observability.stats import ClusterStats, Http2Stats
from sidecar.timers import Timers


class ConnectionEvents(Protocol):
    """The events that a connection reports to its pool. They carry no values: the pool reads the attributes
    of the `ClientConnection`."""

    def exchange_ended(self) -> None:
        """One exchange has ended, and the connection can carry others. Due once for each `send`, unless the
        connection closes."""

    def capacity_changed(self) -> None:
        """`capacity` has another value (RFC 9113 5.1.2: SETTINGS_MAX_CONCURRENT_STREAMS)."""

    def draining(self) -> None:
        """The connection accepts no new exchange; active ones continue (RFC 9113 6.8: GOAWAY)."""

    def closed(self) -> None:
        """The connection is closed, and all its exchanges have ended. The last event."""


class ClientConnection(Protocol):
    """The client side of a codec.

    It may carry `capacity` exchanges at once: 1 for HTTP/1.1. `closed` is true from the moment that the
    peer's EOF or a fault was seen; `cut_short` is then the number of exchanges that were active, and
    `closed_by_peer` tells which side closed it. `broke_protocol`: the peer did. `received_bytes` and
    `sent_bytes` count since the connection opened. `counts_resets`: it counts the exchanges that either side
    resets in the statistics of the cluster. The pool sets `events` once the connection is open.
    """

    broke_protocol: bool
    capacity: int
    counts_resets: bool
    cut_short: int
    received_bytes: int
    events: ConnectionEvents | None

    @property
    def sent_bytes(self) -> int: ...

    @property
    def closed(self) -> bool: ...

    @property
    def closed_by_peer(self) -> bool: ...

    def close(self) -> None:
        """Closes the transport at once; active exchanges fail. Idempotent."""

    def send(self, request: Any, /) -> asyncio.Future[Any]:
        """Begins one exchange: sends an `http.message.Request`. The future gets the `Response` when its head
        has arrived, or a `RequestError`. (This layer does not see those types.) Raises `RequestError`."""

    def give_up(self, response: asyncio.Future[Any], /) -> None:
        """Ends the exchange of this future, whose caller does not wait for it any more; also the connection,
        if the protocol cannot end an exchange alone. Has no effect on an exchange that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEnvironment:
    """The options and objects that the connections to the hosts of a cluster share."""

    stats: ClusterStats
    timers: Timers
    http2: Http2Options = DEFAULT_HTTP2
    http2_stats: Http2Stats = field(default_factory=Http2Stats)


ConnectionFactory = Callable[[CodecType, ClientEnvironment], Callable[[str], ClientConnection]]
"""Called before a host is dialed, and its result with the protocol that the host chose by ALPN (RFC 7301),
empty for plaintext or none. Both raise `UpstreamConnectError` for an HTTP version that is not supported."""
