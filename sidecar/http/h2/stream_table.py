"""The streams of one connection, open and closed ones (RFC 9113 5.1, 5.1.1)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sidecar.http.h2.error_codes import PROTOCOL_ERROR, Http2ConnectionError
from sidecar.http.h2.frames import MAX_STREAM_ID
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.h2.stream_state import CLOSED, INVALID, TRANSITIONS

# Streams that this side has reset lately: frames that the peer sent before it knew are ignored.
_MAX_REMEMBERED: Final = 2048


class StreamTable:
    """`streams` are the open ones. `last_peer_id` and `last_own_id` are the highest ids that either side has
    used: a stream with a lower one that is not open is closed. `accepts_up_to` is the last id that this
    side's GOAWAY allows; `peer_refuses`: the peer has sent GOAWAY."""

    __slots__ = (
        "_client",
        "_reset",
        "accepts_up_to",
        "last_own_id",
        "last_peer_id",
        "peer_refuses",
        "streams",
    )

    def __init__(self, *, client: bool) -> None:
        self._client = client
        self.streams: dict[int, Http2Stream] = {}
        self._reset: OrderedDict[int, None] = OrderedDict()
        self.last_own_id = -1 if client else 0
        self.last_peer_id = 0
        self.accepts_up_to = MAX_STREAM_ID
        self.peer_refuses = False

    def advance(self, stream: Http2Stream, event: int) -> bool:
        """Returns False if the state of the stream does not allow the event. A stream that closes is
        removed."""
        state = TRANSITIONS[stream.state][event]
        if state == INVALID:
            return False
        stream.state = state
        if state == CLOSED:
            self.streams.pop(stream.id, None)
        return True

    def remember_reset(self, stream_id: int) -> None:
        self._reset[stream_id] = None
        if len(self._reset) > _MAX_REMEMBERED:
            self._reset.popitem(last=False)

    def ignores(self, stream_id: int) -> bool:
        """Whether frames on a stream that is not open are ignored, instead of ending the connection."""
        return stream_id in self._reset or (not self._client and stream_id > self.accepts_up_to)

    def check_not_idle(self, stream_id: int, kind: str) -> None:
        """RFC 9113 5.1: the only frames on an idle stream are HEADERS and PRIORITY. Raises
        `Http2ConnectionError`."""
        own = (stream_id & 1 == 1) == self._client
        if stream_id == 0 or stream_id > (self.last_own_id if own else self.last_peer_id):
            raise Http2ConnectionError(PROTOCOL_ERROR, f"{kind} on stream {stream_id}, which is idle")
