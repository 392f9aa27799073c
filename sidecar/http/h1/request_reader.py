"""Parses requests: the server's half of HTTP/1.1 parsing, without I/O."""

from __future__ import annotations

from typing import Final

from sidecar.errors import DownstreamError, DownstreamProtocolError
from sidecar.http.body import EMPTY, BodySource
from sidecar.http.h1.head import RequestHead, check_beginning, read_request_head
from sidecar.http.h1.incoming import IncomingMessage
from sidecar.http.h1.message_reader import MessageReader
from sidecar.http.h1.reader_state import (
    AWAITING,
    CLOSED,
    HEAD,
    HEAD_OF_TUNNEL,
    HEAD_WITH_CHUNKS,
    HEAD_WITH_LENGTH,
    HEAD_WITHOUT_BODY,
    MESSAGE_AWAITED,
    READING_ENDS,
    TRANSITIONS,
    TUNNEL,
    Event,
)
from sidecar.http.h1.rules import (
    check_expect,
    check_transfer_encoding,
    named_by_connection,
    request_rules,
    resolve_target,
)
from sidecar.http.headers import HOP_BY_HOP, MANAGED_PREFIXES, Headers

_OWN_NAMES: Final = HOP_BY_HOP | {b"host", b"expect", b"te"}

# The most requests that one `feed` returns: a small request costs much more memory than its bytes.
MAX_REQUESTS_AT_ONCE: Final = 16

# RFC 9113 3.1 has removed the upgrade to HTTP/2; Envoy ignores it too.
_DECLINED_UPGRADES: Final = frozenset((b"h2c",))


class IncomingRequest(IncomingMessage):
    """A request as it was received."""

    __slots__ = ("authority", "expects_continue", "http10", "method", "path", "upgrade")

    def __init__(self, method: bytes, headers: Headers, keep_alive: bool) -> None:
        self.headers = headers  # not by `super`, whose call would cost more than these lines
        self.body = EMPTY
        self.stream = None
        self.keep_alive = keep_alive
        self.complete = False
        self.received_bytes = 0
        self.method = method
        self.authority = b""
        self.path = b""
        self.upgrade: bytes | None = None
        self.http10 = False
        self.expects_continue = False


class RequestReader(MessageReader):
    """`feed` returns the requests whose head became complete, each with its body: a whole body if it is
    complete too, or else a stream, which later bytes are added to.

    `feed` does not raise: `error` is the client's error, after the requests already returned. No request
    follows an error, or a request with ``Connection: close``.
    """

    __slots__ = ("_allow_absolute_url", "_arrived", "_max_at_once", "_request", "stopped_at")

    def __init__(
        self,
        source: BodySource,
        *,
        max_headers_bytes: int = 60 * 1024,
        max_headers_count: int = 100,
        max_at_once: int = MAX_REQUESTS_AT_ONCE,
        allow_absolute_url: bool = True,
    ) -> None:
        super().__init__(source, request_rules(max_headers_bytes, max_headers_count))
        self.state = AWAITING
        self.stopped_at = 0
        self._max_at_once = max_at_once
        self._allow_absolute_url = allow_absolute_url
        self._arrived: list[IncomingRequest] = []
        self._request = IncomingRequest(b"", [], False)

    @property
    def head_pending(self) -> bool:
        return self.state is HEAD

    def feed(self, data: bytes, at: int = 0) -> list[IncomingRequest]:
        """Reads `data` from position `at`. `stopped_at` is then the position at which the next call must
        continue: before the end of `data` if one call may not return more requests."""
        size = len(data)
        try:
            while at < size and self.state is not CLOSED and len(self._arrived) < self._max_at_once:
                at = self.read_head(data, at) if self.message is None else self.read_body(data, at)
        except DownstreamError as error:
            self.fail(error)
        self.stopped_at = size if self.state is CLOSED else at
        if self.message is not None:
            self.deliver_unfinished()
        arrived = self._arrived
        if arrived:
            self._arrived = []
        return arrived

    def feed_eof(self) -> None:
        """Handles an EOF from the client: it ends a tunnel's body, but no other body."""
        if self.state is TUNNEL:
            self.end_body(None)

    # The direction of a `MessageReader`.

    def parse_head(self, data: bytes, at: int) -> int:
        head: RequestHead | None = read_request_head(data, at, self.rules)
        if head is None:
            return 0
        method, target, http11, keep_alive, host, fields, special, length, end = head
        request = IncomingRequest(method, fields, keep_alive)
        request.http10 = not http11
        if special is not None or not keep_alive or method == b"CONNECT":
            event = self._read_special(request, special or [], length)
        else:
            event = HEAD_WITH_LENGTH if length > 0 else HEAD_WITHOUT_BODY
        request.authority, request.path = resolve_target(
            method, target, host, allow_absolute=self._allow_absolute_url
        )
        self._request = request
        self.message = request
        return self.begin_body(event, length, data, end)

    def check_beginning(self, beginning: bytes) -> None:
        check_beginning(beginning, response=False, rules=self.rules)

    def deliver(self) -> None:
        self._arrived.append(self._request)

    def without_forbidden(self, trailers: Headers) -> Headers:
        return [
            field
            for field in trailers
            if field[0] not in _OWN_NAMES and not field[0].startswith(MANAGED_PREFIXES)
        ]

    def message_ended(self) -> None:
        event = MESSAGE_AWAITED if self._request.keep_alive else READING_ENDS
        self.state = TRANSITIONS[self.state][event]

    # Less frequent cases.

    def _read_special(self, request: IncomingRequest, fields: Headers, length: int) -> Event:
        """Reads the fields for this hop. Called if there are any, or if the connection must end, as it does
        after a request of HTTP/1.0 without one of them."""
        special: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            special.setdefault(name, []).append(value)
        chunked = b"transfer-encoding" in special
        if chunked:
            check_transfer_encoding(special[b"transfer-encoding"], http11=not request.http10)
        if b"expect" in special and not request.http10:
            check_expect(special[b"expect"][0])
            request.expects_continue = True
        if b"te" in special and any(b"trailers" in value.lower() for value in special[b"te"]):
            request.headers.append((b"te", b"trailers"))
        options: set[bytes] = set()
        if b"connection" in special:
            options = named_by_connection(special[b"connection"])
            for field in request.headers:
                if field[0] in options:
                    request.headers = [field for field in request.headers if field[0] not in options]
                    break
        request.upgrade = _requested_upgrade(request, special, options)
        if request.upgrade is None:
            if chunked:
                return HEAD_WITH_CHUNKS
            return HEAD_WITH_LENGTH if length > 0 else HEAD_WITHOUT_BODY
        if chunked or length > 0:
            raise DownstreamProtocolError("an upgrade with a body: the start of the tunnel is ambiguous")
        request.keep_alive = False  # no request follows, even if the upgrade is refused
        return HEAD_OF_TUNNEL


def _requested_upgrade(
    request: IncomingRequest, special: dict[bytes, list[bytes]], options: set[bytes]
) -> bytes | None:
    """Returns the protocol of the tunnel, or None. RFC 9110 7.8: an upgrade that is not supported is ignored,
    and so is one in HTTP/1.0, or one that Connection does not name."""
    if request.method == b"CONNECT":
        return b"connect"
    if request.http10 or b"upgrade" not in options or not special.get(b"upgrade", [b""])[0]:
        return None
    protocol = special[b"upgrade"][0].partition(b",")[0].strip().lower()
    return None if protocol in _DECLINED_UPGRADES else protocol
