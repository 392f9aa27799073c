"""The limits of frames that cost this side more than the peer, as in Envoy's ``ProtocolConstraints``."""

from __future__ import annotations

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import ENHANCE_YOUR_CALM, Http2ConnectionError


class FloodLimits:
    """Counts frames. Each method raises `Http2ConnectionError` when a limit is exceeded."""

    __slots__ = (
        "_empty_frames",
        "_options",
        "_priority_frames",
        "_window_updates",
        "control_frames",
        "data_frames_sent",
        "frames",
        "opened_streams",
    )

    def __init__(self, options: Http2Options) -> None:
        self._options = options
        self.opened_streams = 0
        self.data_frames_sent = 0
        # Not yet written.
        self.frames = 0
        self.control_frames = 0
        self._empty_frames = 0  # consecutive
        self._priority_frames = 0
        self._window_updates = 0

    def empty_frame(self) -> None:
        """A HEADERS, CONTINUATION or DATA frame arrives without payload, and does not end its stream."""
        self._empty_frames += 1
        if self._empty_frames > self._options.max_consecutive_inbound_frames_with_empty_payload:
            raise _flood("too many consecutive frames without payload", "inbound_empty_frames_flood")

    def filled_frame(self) -> None:
        """One arrives that is not such."""
        self._empty_frames = 0

    def priority_frame(self) -> None:
        self._priority_frames += 1
        limit = self._options.max_inbound_priority_frames_per_stream * (1 + self.opened_streams)
        if self._priority_frames > limit:
            raise _flood("too many PRIORITY frames", "inbound_priority_frames_flood")

    def window_update(self) -> None:
        self._window_updates += 1
        per_data_frame = self._options.max_inbound_window_update_frames_per_data_frame_sent
        if self._window_updates > 1 + 2 * (self.opened_streams + per_data_frame * self.data_frames_sent):
            raise _flood("too many WINDOW_UPDATE frames", "inbound_window_update_frames_flood")

    def check_outbound(self) -> None:
        """Frames wait, because the peer does not read."""
        if self.frames > self._options.max_outbound_frames:
            raise _flood("too many frames wait to be written", "outbound_flood")
        if self.control_frames > self._options.max_outbound_control_frames:
            raise _flood("too many control frames wait to be written", "outbound_control_flood")


def _flood(reason: str, counter: str) -> Http2ConnectionError:
    return Http2ConnectionError(ENHANCE_YOUR_CALM, reason, counter)
