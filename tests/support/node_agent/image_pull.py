"""The attempts to pull an image that the node does not have, in the words of kubelet and containerd."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 10.0
LIMIT_S = 300.0
SHOWN_S = 1.0  # how long the container shows the failure before it shows that it waits


@dataclass(frozen=True, slots=True, kw_only=True)
class PullState:
    """How the container waits, when to look again, and the Events to record: type, reason, message."""

    reason: str
    message: str
    retry_at_s: float
    events: tuple[tuple[str, str, str], ...]


class ImagePull:
    """Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._delay_s = 0.0
        self._next_attempt_s = 0.0

    def attempt(self, image: str, failure: str, now_s: float) -> PullState:
        """After a failed look for the image: an attempt where one is due, otherwise the time between two."""
        words = f'failed to pull and unpack image "{image}": {failure}: not found'
        words = f"rpc error: code = NotFound desc = {words}"
        if now_s >= self._next_attempt_s:
            self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LIMIT_S)
            self._next_attempt_s = now_s + self._delay_s
            return PullState(
                reason="ErrImagePull",
                message=words,
                retry_at_s=now_s + SHOWN_S,
                events=(
                    ("Normal", "Pulling", f'Pulling image "{image}"'),
                    ("Warning", "Failed", f'Failed to pull image "{image}": {words}'),
                    ("Warning", "Failed", "Error: ErrImagePull"),
                ),
            )
        return PullState(
            reason="ImagePullBackOff",
            message=f'Back-off pulling image "{image}": ErrImagePull: {words}',
            retry_at_s=self._next_attempt_s,
            events=(
                ("Normal", "BackOff", f'Back-off pulling image "{image}"'),
                ("Warning", "Failed", "Error: ImagePullBackOff"),
            ),
        )
