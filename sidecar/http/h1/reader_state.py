"""The states of one direction of an HTTP/1.1 connection, as its reader sees them, and their transitions.

A missing transition is a defect of the reader: no input can cause it.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class State(IntEnum):
    """The part of a message to which the next byte belongs."""

    IDLE = auto()  # no message is expected
    AWAITING = auto()  # the head of a message, or an empty line before it (RFC 9112 2.2)
    HEAD = auto()  # a head that has begun
    SIZED_BODY = auto()
    CHUNKED_BODY = auto()  # trailers included
    UNFRAMED_BODY = auto()  # it ends with the connection
    TUNNEL = auto()  # HTTP has ended: after CONNECT or an upgrade
    CLOSED = auto()  # reading has ended: after the last message, or an error


class Event(IntEnum):
    MESSAGE_AWAITED = auto()
    HEAD_BEGINS = auto()
    INTERIM_ENDS = auto()  # the head of a 1xx response
    HEAD_WITHOUT_BODY = (
        auto()
    )  # the events up to HEAD_OF_TUNNEL: the end of a head, and the body that it announces
    HEAD_WITH_LENGTH = auto()
    HEAD_WITH_CHUNKS = auto()
    HEAD_WITHOUT_FRAMING = auto()
    HEAD_OF_TUNNEL = auto()
    BODY_ENDS = auto()
    READING_ENDS = auto()


# Names for the members: looking up an attribute of an enum would cost the readers as much as a call.
IDLE: Final = State.IDLE
AWAITING: Final = State.AWAITING
HEAD: Final = State.HEAD
SIZED_BODY: Final = State.SIZED_BODY
CHUNKED_BODY: Final = State.CHUNKED_BODY
UNFRAMED_BODY: Final = State.UNFRAMED_BODY
TUNNEL: Final = State.TUNNEL
CLOSED: Final = State.CLOSED
MESSAGE_AWAITED: Final = Event.MESSAGE_AWAITED
HEAD_BEGINS: Final = Event.HEAD_BEGINS
INTERIM_ENDS: Final = Event.INTERIM_ENDS
HEAD_WITHOUT_BODY: Final = Event.HEAD_WITHOUT_BODY
HEAD_WITH_LENGTH: Final = Event.HEAD_WITH_LENGTH
HEAD_WITH_CHUNKS: Final = Event.HEAD_WITH_CHUNKS
HEAD_WITHOUT_FRAMING: Final = Event.HEAD_WITHOUT_FRAMING
HEAD_OF_TUNNEL: Final = Event.HEAD_OF_TUNNEL
BODY_ENDS: Final = Event.BODY_ENDS
READING_ENDS: Final = Event.READING_ENDS

_END_OF_HEAD: Final[dict[Event, State]] = {
    INTERIM_ENDS: AWAITING,
    HEAD_WITHOUT_BODY: IDLE,
    HEAD_WITH_LENGTH: SIZED_BODY,
    HEAD_WITH_CHUNKS: CHUNKED_BODY,
    HEAD_WITHOUT_FRAMING: UNFRAMED_BODY,
    HEAD_OF_TUNNEL: TUNNEL,
    READING_ENDS: CLOSED,
}
_END_OF_BODY: Final[dict[Event, State]] = {
    BODY_ENDS: IDLE,
    READING_ENDS: CLOSED,
}
TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    IDLE: {MESSAGE_AWAITED: AWAITING, READING_ENDS: CLOSED},
    AWAITING: {  # a head that arrives in one piece ends at once
        MESSAGE_AWAITED: AWAITING,
        HEAD_BEGINS: HEAD,
        **_END_OF_HEAD,
    },
    HEAD: _END_OF_HEAD,
    SIZED_BODY: _END_OF_BODY,
    CHUNKED_BODY: _END_OF_BODY,
    UNFRAMED_BODY: _END_OF_BODY,
    TUNNEL: _END_OF_BODY,
    CLOSED: {READING_ENDS: CLOSED},
}
