"""One stream of an HTTP/2 connection, as its codec sees it."""

from __future__ import annotations

from typing import Any

from sidecar.http.h2.stream_state import CLOSED, HALF_CLOSED_REMOTE, IDLE
from sidecar.http.headers import Headers


class Http2Stream:
    """`exchange` belongs to the owner of the connection; the codec never looks at it. `id` is 0 until a
    client has sent the head of its request.

    `writable`: the stream keeps no bytes. The owner gives no more while it is False, until `StreamWritable`.
    """

    __slots__ = (
        "bodiless",
        "exchange",
        "expected",
        "head_received",
        "id",
        "interim_bytes",
        "receive_window",
        "send_window",
        "state",
        "tunnel",
        "unconsumed",
        "uncredited",
        "unsent",
        "unsent_at",
        "unsent_end",
        "unsent_size",
        "unsent_trailers",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.state = IDLE
        self.exchange: Any = None
        # Receiving.
        self.head_received = False  # the request, or the final response
        self.bodiless = False  # the response is one to HEAD
        self.tunnel = False  # the request is a CONNECT
        # The bytes of the body that are missing; below 0 they are unknown, and it is -1 - those received.
        self.expected = -1
        self.interim_bytes = 0  # of the interim responses
        self.receive_window = receive_window
        self.unconsumed = 0  # received, and not taken by the owner
        self.uncredited = 0  # taken, and not returned to the peer's window
        # Sending: what the windows do not allow yet.
        self.send_window = send_window
        self.unsent: list[bytes] = []
        self.unsent_at = 0  # in the first of them
        self.unsent_size = 0
        self.unsent_end = False
        self.unsent_trailers: Headers | None = None

    @property
    def writable(self) -> bool:
        return self.unsent_size == 0

    @property
    def closed(self) -> bool:
        return self.state == CLOSED

    @property
    def received_end(self) -> bool:
        """Whether the peer has ended the stream."""
        return self.state in (HALF_CLOSED_REMOTE, CLOSED)
