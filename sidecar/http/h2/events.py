"""What the peer has sent, as `Http2Connection.receive` returns it. One class for each kind; look at the
class."""

from __future__ import annotations

from typing import final

from sidecar.http.h2.error_codes import Http2ConnectionError
from sidecar.http.h2.stream import Http2Stream
from sidecar.http.headers import Headers


class Http2Event:
    __slots__ = ()


@final
class HeadReceived(Http2Event):
    """The head of a request (`status` is 0), or of a final response (`status` is not).

    `headers` has only regular fields that are safe to write as HTTP/1: no pseudo-headers, no fields for one
    hop except ``te: trailers``, no ``host``, one ``cookie`` (RFC 9113 8.2.3). The list is the receiver's own.
    `protocol` is the ``:protocol`` of an extended CONNECT (RFC 8441), or empty. `path` and `scheme` are empty
    in a plain CONNECT. `path_error` says why the path of a request that is valid otherwise must be refused;
    empty if it must not. `expect` is the value of a request's ``expect``, which `headers` does not have.
    `size` is the bytes of the names and values.
    """

    __slots__ = (
        "authority",
        "end_stream",
        "expect",
        "headers",
        "method",
        "path",
        "path_error",
        "protocol",
        "scheme",
        "size",
        "status",
        "stream",
    )

    def __init__(self, stream: Http2Stream, headers: Headers, end_stream: bool) -> None:
        self.stream = stream
        self.headers = headers
        self.end_stream = end_stream
        self.status = 0
        self.method = b""
        self.scheme = b""
        self.authority = b""
        self.path = b""
        self.path_error = ""
        self.protocol = b""
        self.expect = b""
        self.size = 0


@final
class InterimReceived(Http2Event):
    """A 1xx response. `headers` as in `HeadReceived`."""

    __slots__ = ("headers", "status", "stream")

    def __init__(self, stream: Http2Stream, status: int, headers: Headers) -> None:
        self.stream = stream
        self.status = status
        self.headers = headers


@final
class DataReceived(Http2Event):
    """A part of a body, without padding. The owner calls `Http2Connection.consumed` for its size when it has
    taken it. `data` is empty only if `end_stream`."""

    __slots__ = ("data", "end_stream", "stream")

    def __init__(self, stream: Http2Stream, data: bytes, end_stream: bool) -> None:
        self.stream = stream
        self.data = data
        self.end_stream = end_stream


@final
class TrailersReceived(Http2Event):
    """The trailers, which end the stream. `trailers` as `headers` in `HeadReceived`."""

    __slots__ = ("stream", "trailers")

    def __init__(self, stream: Http2Stream, trailers: Headers) -> None:
        self.stream = stream
        self.trailers = trailers


@final
class StreamReset(Http2Event):
    """The stream ended before its messages did. `local`: this side reset it (or never opened it for the
    owner), because the peer broke a rule, which `reason` describes. Otherwise the peer did, or its GOAWAY
    says that it does not process the stream (REFUSED_STREAM). `code` may be an unknown one. `counter` is
    Envoy's statistic below ``http2.`` that counts it: ``rx_reset``, ``rx_messaging_error``,
    ``header_overflow``, ``header_list_size_too_large``; or empty. A stream that the owner does not know yet
    (`exchange` is None) may be reset."""

    __slots__ = ("code", "counter", "local", "reason", "stream")

    def __init__(self, stream: Http2Stream, code: int, local: bool, reason: str, counter: str) -> None:
        self.stream = stream
        self.code = code
        self.local = local
        self.reason = reason
        self.counter = counter


@final
class StreamWritable(Http2Event):
    """All bytes that the stream kept are framed."""

    __slots__ = ("stream",)

    def __init__(self, stream: Http2Stream) -> None:
        self.stream = stream


@final
class SettingsChanged(Http2Event):
    """The peer's settings: `Http2Connection.remote` has them."""

    __slots__ = ()


@final
class GoAwayReceived(Http2Event):
    """The peer accepts no more streams. `StreamReset` events for those above `last_stream_id` follow.
    `reason` is its debug data (RFC 9113 6.8), of at most one frame."""

    __slots__ = ("code", "last_stream_id", "reason")

    def __init__(self, last_stream_id: int, code: int, reason: bytes) -> None:
        self.last_stream_id = last_stream_id
        self.code = code
        self.reason = reason


@final
class PongReceived(Http2Event):
    """The answer to a PING."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


@final
class ConnectionFailed(Http2Event):
    """The peer broke the protocol or exceeded a limit. It is the last event; GOAWAY is collected already. All
    streams have ended, without an event for each of them. `in_head`: the head of a request was being read,
    which the receiver does not know yet."""

    __slots__ = ("error", "in_head")

    def __init__(self, error: Http2ConnectionError, in_head: bool) -> None:
        self.error = error
        self.in_head = in_head
