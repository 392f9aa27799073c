"""One stream of an HTTP/2 connection, as its codec sees it."""

from __future__ import annotations

from typing import Any

from sidecar.http.h2.stream_state import CLOSED, HALF_CLOSED_REMOTE, IDLE


class Http2Stream:
    """`exchange` belongs to the owner of the connection; the codec never looks at it.

    `writable`: DATA that is given now is framed at once, or at least nothing is kept before it. The owner gives
    no more while it is False, until `StreamWritable`.
    """

    __slots__ = (
        "ends",
        "exchange",
        "expected",
        "head_received",
        "head_request",
        "id",
        "receive_window",
        "receiving_bodiless",
        "send_window",
        "state",
        "unconsumed",
        "unsent",
        "unsent_size",
        "unsent_trailers",
        "uncredited",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.state = IDLE
        self.exchange: Any = None
        self.send_window = send_window
        self.unsent_size = 0

    @property
    def writable(self) -> bool:
        return self.unsent_size == 0

    @property
    def closed(self) -> bool:
        return self.state == CLOSED

    @property
    def received_end(self) -> bool:
        """Whether the peer has ended the stream."""
        return self.state == HALF_CLOSED_REMOTE or self.state == CLOSED
