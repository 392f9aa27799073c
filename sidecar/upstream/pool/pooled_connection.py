"""A connection in a pool, which carries many exchanges, and the lease of it for one exchange."""

from __future__ import annotations

import ssl

from sidecar.config.endpoint import SocketAddress
from sidecar.timers import Timer
from sidecar.upstream.connection import ClientConnection


class PooledConnection:
    """An open connection, and the pool's accounts of it. A subclass is the `ConnectionEvents` of the codec.

    `lent` leases have not ended yet; `lent_total` counts all. A `retiring` connection gets no new lease, and
    is closed after the last one; one that is `gone` has closed. `listed` is the pool's own note: the
    connection is in its list of those with room. `secured_by` is its TLS context, None in plaintext.
    """

    __slots__ = (
        "capacity",
        "codec",
        "duration_timer",
        "gone",
        "idle_since_s",
        "lent",
        "lent_total",
        "listed",
        "local_address",
        "peer_id",
        "received_bytes",
        "retiring",
        "secured_by",
        "sent_bytes",
    )

    def __init__(
        self,
        codec: ClientConnection,
        *,
        secured_by: ssl.SSLContext | None = None,
        peer_id: str = "",
        local_address: SocketAddress | None = None,
    ) -> None:
        self.codec = codec
        self.secured_by = secured_by
        self.peer_id = peer_id
        self.local_address = local_address
        self.capacity = codec.capacity
        self.idle_since_s = 0.0
        self.lent = 0
        self.lent_total = 0
        self.listed = False
        self.retiring = False
        self.gone = False
        self.duration_timer: Timer | None = None
        self.received_bytes = 0
        self.sent_bytes = 0

    def exchange_ended(self) -> None:
        """One lease has ended. An event of `ConnectionEvents`."""
        raise NotImplementedError


class Lease:
    """The right to one exchange on a connection, begun by its codec's `send`. It ends when the codec reports
    the end of the exchange or of the connection; `give_back` ends one that was never used.

    `reused`: the connection has carried other exchanges before this one.
    """

    __slots__ = ("connection", "reused")

    def __init__(self, connection: PooledConnection) -> None:
        self.connection = connection
        self.reused = connection.lent_total > 1

    def give_back(self) -> None:
        self.connection.exchange_ended()
