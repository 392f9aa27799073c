"""The states of the server's side of an HTTP/1 connection, and their transitions. At most one exchange is
active.

A missing transition is a defect of the codec: neither a client nor the stack can cause it.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class ConnectionPhase(IntEnum):
    IDLE = auto()  # no request is active
    HANDLING = auto()  # a request is active, and its response has not begun
    RESPONDING = auto()  # the head of its response was written
    RESPONDED = auto()  # all of its response was written
    LINGERING = auto()  # the last response was written; the client has a limited time to close
    CLOSING = auto()  # reading has ended; the transport closes when the written bytes are sent
    CLOSED = auto()  # the transport is closed


class ConnectionEvent(IntEnum):
    REQUEST_BEGINS = auto()
    HEAD_WRITTEN = auto()
    RESPONSE_WRITTEN = auto()
    EXCHANGE_ENDS = auto()  # the next request may begin
    CONNECTION_LINGERS = auto()
    CONNECTION_CLOSES = auto()
    CONNECTION_LOST = auto()


IDLE: Final = ConnectionPhase.IDLE
HANDLING: Final = ConnectionPhase.HANDLING
RESPONDING: Final = ConnectionPhase.RESPONDING
RESPONDED: Final = ConnectionPhase.RESPONDED
LINGERING: Final = ConnectionPhase.LINGERING
CLOSING: Final = ConnectionPhase.CLOSING
CLOSED: Final = ConnectionPhase.CLOSED
REQUEST_BEGINS: Final = ConnectionEvent.REQUEST_BEGINS
HEAD_WRITTEN: Final = ConnectionEvent.HEAD_WRITTEN
RESPONSE_WRITTEN: Final = ConnectionEvent.RESPONSE_WRITTEN
EXCHANGE_ENDS: Final = ConnectionEvent.EXCHANGE_ENDS
CONNECTION_LINGERS: Final = ConnectionEvent.CONNECTION_LINGERS
CONNECTION_CLOSES: Final = ConnectionEvent.CONNECTION_CLOSES
CONNECTION_LOST: Final = ConnectionEvent.CONNECTION_LOST

_ENDS: Final[dict[ConnectionEvent, ConnectionPhase]] = {
    CONNECTION_LINGERS: LINGERING,
    CONNECTION_CLOSES: CLOSING,
    CONNECTION_LOST: CLOSED,
}
TRANSITIONS: Final[dict[ConnectionPhase, dict[ConnectionEvent, ConnectionPhase]]] = {
    IDLE: {REQUEST_BEGINS: HANDLING, **_ENDS},
    HANDLING: {HEAD_WRITTEN: RESPONDING, RESPONSE_WRITTEN: RESPONDED, **_ENDS},
    RESPONDING: {RESPONSE_WRITTEN: RESPONDED, **_ENDS},
    RESPONDED: {EXCHANGE_ENDS: IDLE, **_ENDS},
    LINGERING: {CONNECTION_CLOSES: CLOSING, CONNECTION_LOST: CLOSED},
    # The client has ended its direction, and may still take a response that is being written.
    CLOSING: {
        HEAD_WRITTEN: CLOSING,
        RESPONSE_WRITTEN: CLOSING,
        CONNECTION_CLOSES: CLOSING,
        CONNECTION_LOST: CLOSED,
    },
    CLOSED: {},
}


class ConnectionState:
    """The state of one connection, which its parts share."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = IDLE

    def move(self, event: ConnectionEvent) -> None:
        self.now = TRANSITIONS[self.now][event]
