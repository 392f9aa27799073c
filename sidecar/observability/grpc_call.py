"""The facts of one gRPC call that passes through: its status, and the number of its messages."""

from __future__ import annotations

from typing import Final

from sidecar.grpc_status import INVALID_STATUS, NO_STATUS, find_grpc_status, grpc_status_of_http
from sidecar.observability.stats import GrpcStats

# A flag, and the length of the message in four bytes.
_PREFIX_BYTES: Final = 5


class MessageCounter:
    """Counts the messages of one direction while their bytes pass, by their prefixes
    (``Length-Prefixed-Message`` of gRPC's ``PROTOCOL-HTTP2.md``). A message counts from its first byte on, as
    in Envoy. It keeps at most four bytes."""

    __slots__ = ("_left", "_prefix", "count")

    def __init__(self) -> None:
        self.count = 0
        self._left = 0  # bytes of the current message that have not passed yet
        self._prefix = b""  # the part of a prefix that has passed

    @property
    def at_boundary(self) -> bool:
        """Whether no message has begun and not ended."""
        return self._left == 0 and not self._prefix

    def feed(self, data: bytes) -> None:
        counted = False
        if self._prefix:
            data = self._prefix + data
            self._prefix = b""
            counted = True
        at, size = self._left, len(data)
        while at < size:
            if not counted:
                self.count += 1
            counted = False
            if size - at < _PREFIX_BYTES:
                self._prefix = data[at:]
                at = size
            else:
                length = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
                at += _PREFIX_BYTES + length
        self._left = at - size


class GrpcCall:
    """`status` is `NO_STATUS` until the response has ended. `over_web`: the client speaks gRPC-Web, so the
    proxy's own replies are plain HTTP, which the gRPC-Web filter translates. `stats` and `web_stats`, where
    set by a filter, count the call at its end. `translated`: the response was not gRPC until the gRPC-Web
    filter made its status, which Envoy does not count."""

    __slots__ = (
        "over_web",
        "request_messages",
        "response_messages",
        "stats",
        "status",
        "translated",
        "web_stats",
    )

    def __init__(self, *, over_web: bool = False) -> None:
        self.over_web = over_web
        self.status = NO_STATUS
        self.stats: GrpcStats | None = None
        self.web_stats: GrpcStats | None = None
        self.translated = False
        self.request_messages = MessageCounter()
        self.response_messages = MessageCounter()

    def end(
        self, http_status: int, headers: list[tuple[bytes, bytes]], trailers: list[tuple[bytes, bytes]]
    ) -> None:
        """The response has ended. Envoy: the status is that of the trailers, of the head, or follows from the
        HTTP status."""
        if self.status == NO_STATUS:
            self.status = find_grpc_status(trailers)
        if self.status == NO_STATUS:
            self.status = find_grpc_status(headers)
        if self.stats is not None:
            self.stats.request_message_count += self.request_messages.count
            self.stats.response_message_count += self.response_messages.count
            self._count(self.stats)
        if self.web_stats is not None:
            self._count(self.web_stats)
        if self.status == NO_STATUS:
            self.status = grpc_status_of_http(http_status)

    def _count(self, stats: GrpcStats) -> None:
        """Envoy: a call without a status is not counted, but its messages are."""
        status = self.status
        if status == NO_STATUS or self.translated:
            return
        stats.total += 1
        if status == 0:
            stats.success += 1
        else:
            stats.failure += 1
        if status != INVALID_STATUS:
            name = f"status__{status}"
            setattr(stats, name, getattr(stats, name) + 1)


def called_method(path: bytes) -> tuple[str, str] | None:
    """The service and the method that a path names; None if it names none."""
    names = [name for name in path.partition(b"?")[0].decode("latin-1").split("/") if name]
    return (names[0], names[1]) if len(names) == 2 else None
