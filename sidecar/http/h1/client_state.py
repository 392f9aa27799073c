"""The states of the client's side of an HTTP/1.1 connection, and their transitions. At most one exchange is
active.

A transition that is missing is a fault of the codec: no upstream can lead to it.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class ClientPhase(IntEnum):
    """In this order: all from CLOSED on are ends."""

    IDLE = auto()  # no exchange is active
    SENDING = auto()  # a request has begun, and not all of it was written
    AWAITING = auto()  # all of the request was written, and the response is not complete
    TUNNEL = auto()  # HTTP has ended, and both directions are open
    TUNNEL_TO_UPSTREAM = auto()  # the upstream has ended its direction
    TUNNEL_FROM_UPSTREAM = auto()  # the client has ended its direction
    TUNNEL_ENDED = auto()  # both directions have ended
    CLOSED = auto()  # the sidecar has closed the connection
    LOST = auto()  # the upstream has closed it


class ClientEvent(IntEnum):
    REQUEST_BEGINS = auto()
    WHOLE_REQUEST_BEGINS = auto()  # it ends in the same moment
    REQUEST_ENDS = auto()  # all of it was written
    TUNNEL_OPENS = auto()
    RESPONSE_ENDS = auto()  # all of it was read
    CONNECTION_CLOSES = auto()
    CONNECTION_LOST = auto()


IDLE: Final = ClientPhase.IDLE
SENDING: Final = ClientPhase.SENDING
AWAITING: Final = ClientPhase.AWAITING
TUNNEL: Final = ClientPhase.TUNNEL
TUNNEL_TO_UPSTREAM: Final = ClientPhase.TUNNEL_TO_UPSTREAM
TUNNEL_FROM_UPSTREAM: Final = ClientPhase.TUNNEL_FROM_UPSTREAM
TUNNEL_ENDED: Final = ClientPhase.TUNNEL_ENDED
CLOSED: Final = ClientPhase.CLOSED
LOST: Final = ClientPhase.LOST
REQUEST_BEGINS: Final = ClientEvent.REQUEST_BEGINS
WHOLE_REQUEST_BEGINS: Final = ClientEvent.WHOLE_REQUEST_BEGINS
REQUEST_ENDS: Final = ClientEvent.REQUEST_ENDS
TUNNEL_OPENS: Final = ClientEvent.TUNNEL_OPENS
RESPONSE_ENDS: Final = ClientEvent.RESPONSE_ENDS
CONNECTION_CLOSES: Final = ClientEvent.CONNECTION_CLOSES
CONNECTION_LOST: Final = ClientEvent.CONNECTION_LOST

_ENDS: Final[dict[ClientEvent, ClientPhase]] = {CONNECTION_CLOSES: CLOSED, CONNECTION_LOST: LOST}
TRANSITIONS: Final[dict[ClientPhase, dict[ClientEvent, ClientPhase]]] = {
    IDLE: {REQUEST_BEGINS: SENDING, WHOLE_REQUEST_BEGINS: AWAITING, **_ENDS},
    # If the response ends first, the rest of the request is not sent, and the connection closes.
    SENDING: {REQUEST_ENDS: AWAITING, TUNNEL_OPENS: TUNNEL, RESPONSE_ENDS: SENDING, **_ENDS},
    # A filter may have made a CONNECT of a request with a whole body.
    AWAITING: {RESPONSE_ENDS: IDLE, TUNNEL_OPENS: TUNNEL, **_ENDS},
    TUNNEL: {REQUEST_ENDS: TUNNEL_FROM_UPSTREAM, RESPONSE_ENDS: TUNNEL_TO_UPSTREAM, **_ENDS},
    TUNNEL_TO_UPSTREAM: {REQUEST_ENDS: TUNNEL_ENDED, **_ENDS},
    TUNNEL_FROM_UPSTREAM: {RESPONSE_ENDS: TUNNEL_ENDED, **_ENDS},
    TUNNEL_ENDED: _ENDS,
    CLOSED: {},
    LOST: {},
}
