"""The states of a stream, and their transitions (RFC 9113 5.1).

Server push is never enabled, so no stream is ever reserved. States and events are plain integers, because
every frame looks one up.
"""

from __future__ import annotations

from typing import Final

# States.
IDLE: Final = 0
OPEN: Final = 1
HALF_CLOSED_LOCAL: Final = 2  # this side has ended the stream
HALF_CLOSED_REMOTE: Final = 3  # the peer has ended it
CLOSED: Final = 4

# Events: what is sent, and what is received.
SEND_HEAD: Final = 0
SEND_END: Final = 1
SEND_RESET: Final = 2
RECEIVE_HEAD: Final = 3
RECEIVE_END: Final = 4
RECEIVE_RESET: Final = 5

INVALID: Final = -1

TRANSITIONS: Final[tuple[tuple[int, ...], ...]] = (  # not of a fixed length: the compiler would copy it
    # SEND_HEAD, SEND_END, SEND_RESET, RECEIVE_HEAD, RECEIVE_END, RECEIVE_RESET
    (OPEN, INVALID, INVALID, OPEN, INVALID, INVALID),  # IDLE
    (OPEN, HALF_CLOSED_LOCAL, CLOSED, OPEN, HALF_CLOSED_REMOTE, CLOSED),  # OPEN
    (INVALID, INVALID, CLOSED, HALF_CLOSED_LOCAL, CLOSED, CLOSED),  # HALF_CLOSED_LOCAL
    (HALF_CLOSED_REMOTE, CLOSED, CLOSED, INVALID, INVALID, CLOSED),  # HALF_CLOSED_REMOTE
    (INVALID, INVALID, CLOSED, INVALID, INVALID, CLOSED),  # CLOSED
)
"""The state after an event. INVALID: this side must not send it, or the peer breaks the protocol."""
