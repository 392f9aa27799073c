"""Parses requests: the server's half of HTTP/1.1 parsing, without I/O."""

from __future__ import annotations

from typing import Final

import httptools

from sidecar.errors import DownstreamError, DownstreamProtocolError, HeadersTooLargeError, RequestError
from sidecar.http.body import EMPTY, BodySource
from sidecar.http.h1.message_reader import IncomingMessage, MessageReader
from sidecar.http.h1.reader_state import (
    AWAITING,
    CLOSED,
    HEAD,
    HEAD_OF_TUNNEL,
    HEAD_WITH_CHUNKS,
    HEAD_WITHOUT_BODY,
    MESSAGE_AWAITED,
    READING_ENDS,
    TRANSITIONS,
    TUNNEL,
    Event,
)
from sidecar.http.h1.rules import (
    ReaderRules,
    check_expect,
    check_transfer_encoding,
    check_version,
    named_by_connection,
    resolve_target,
)
from sidecar.http.headers import HOP_BY_HOP, Headers

_OWN_NAMES: Final = HOP_BY_HOP | {b"host", b"expect", b"te"}

# The connection manager verifies these in a head; a trailer must not bypass it.
_MANAGED_PREFIXES: Final = (b"x-envoy-", b"x-forwarded-")

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


class RequestReader:
    """`feed` returns the requests whose head became complete, each with its body: a whole body if it is
    complete too, or else a stream, which later bytes are added to.

    `feed` does not raise: `error` is the client's error, after the requests already returned. No request
    follows an error, or a request with ``Connection: close``.
    """

    __slots__ = (
        "_allow_absolute_url",
        "_arrived",
        "_max_at_once",
        "_parser",
        "_request",
        "messages",
        "stopped_at",
    )

    def __init__(
        self,
        source: BodySource,
        *,
        max_headers_bytes: int = 60 * 1024,
        max_headers_count: int = 100,
        max_at_once: int = MAX_REQUESTS_AT_ONCE,
        allow_absolute_url: bool = True,
    ) -> None:
        rules = ReaderRules(
            max_headers_bytes=max_headers_bytes,
            max_headers_count=max_headers_count,
            malformed=DownstreamProtocolError,
            too_large=HeadersTooLargeError,
        )
        self.messages = MessageReader(self, source, rules, _OWN_NAMES)
        self.stopped_at = 0
        self._max_at_once = max_at_once
        self._allow_absolute_url = allow_absolute_url
        self._arrived: list[IncomingRequest] = []
        self._request = IncomingRequest(b"", [], False)
        self.messages.state = AWAITING

    @property
    def error(self) -> RequestError | None:
        return self.messages.error

    @property
    def head_pending(self) -> bool:
        return self.messages.state is HEAD

    def feed(self, data: bytes, at: int = 0) -> list[IncomingRequest]:
        """Reads `data` from position `at`. `stopped_at` is then the position at which the next call must
        continue: before the end of `data` if one call may not return more requests."""
        messages, size = self.messages, len(data)
        try:
            while at < size and messages.state is not CLOSED and len(self._arrived) < self._max_at_once:
                at = (
                    messages.read_head(data, at) if messages.message is None else messages.read_body(data, at)
                )
        except DownstreamError as error:
            messages.fail(error)
        self.stopped_at = size if messages.state is CLOSED else at
        if messages.message is not None:
            messages.deliver_unfinished()
        arrived = self._arrived
        if arrived:
            self._arrived = []
        return arrived

    def feed_eof(self) -> None:
        """Handles an EOF from the client: it ends a tunnel's body, but no other body."""
        if self.messages.state is TUNNEL:
            self.messages.end_body(None)

    # The direction of a `MessageReader`.

    def new_parser(self, reader: MessageReader, /) -> httptools.HttpRequestParser:
        parser = self._parser = httptools.HttpRequestParser(reader)
        return parser

    def read_fields(self) -> Event:
        messages, parser = self.messages, self._parser
        special, method = messages.special, parser.get_method()
        request = IncomingRequest(method, messages.fields, parser.should_keep_alive())
        event = HEAD_WITHOUT_BODY
        if len(special) != 1 or not request.keep_alive or method == b"CONNECT":
            event = self._read_special(request)
        elif messages.length:
            event = messages.framing()
        request.authority, request.path = resolve_target(
            method, messages.target, special, allow_absolute=self._allow_absolute_url
        )
        self._request = messages.message = request
        return event

    def deliver(self) -> None:
        self._arrived.append(self._request)

    def without_forbidden(self, trailers: Headers, /) -> Headers:
        return [
            field
            for field in trailers
            if field[0] not in _OWN_NAMES and not field[0].startswith(_MANAGED_PREFIXES)
        ]

    def message_ended(self) -> None:
        messages = self.messages
        event = MESSAGE_AWAITED if self._request.keep_alive else READING_ENDS
        messages.state = TRANSITIONS[messages.state][event]

    # Less frequent cases.

    def _read_special(self, request: IncomingRequest) -> Event:
        """Reads the fields for this hop. Called if there are more fields than Host, or if the connection must
        end; otherwise the version is 1.1, because keep-alive in HTTP/1.0 is a header."""
        messages = self.messages
        special: dict[bytes, list[bytes]] = {}
        for name, value in messages.special:
            special.setdefault(name, []).append(value)
        version = self._parser.get_http_version()
        check_version(version)
        request.http10 = version == "1.0"
        chunked = b"transfer-encoding" in special
        if chunked:
            check_transfer_encoding(special[b"transfer-encoding"], version)
        if b"expect" in special and not request.http10:
            check_expect(special[b"expect"][0])
            request.expects_continue = True
        if b"te" in special and any(b"trailers" in value.lower() for value in special[b"te"]):
            request.headers.append((b"te", b"trailers"))
        if b"connection" in special:
            named = named_by_connection(special[b"connection"])
            request.headers = [field for field in request.headers if field[0] not in named]
        if self._parser.should_upgrade():
            request.upgrade = _accepted_upgrade(request, special)
        if request.upgrade is None:
            if chunked:
                return HEAD_WITH_CHUNKS
            return messages.framing() if messages.length else HEAD_WITHOUT_BODY
        if chunked or messages.length not in (b"", b"0"):
            raise DownstreamProtocolError("an upgrade with a body: the start of the tunnel is ambiguous")
        request.keep_alive = False  # no request follows, even if the upgrade is refused
        return HEAD_OF_TUNNEL


def _accepted_upgrade(request: IncomingRequest, special: dict[bytes, list[bytes]]) -> bytes | None:
    """Returns the protocol of the tunnel, or None. RFC 9110 7.8: an upgrade that is not supported is ignored,
    and so is one in HTTP/1.0."""
    if request.method == b"CONNECT":
        return b"connect"
    protocol = special[b"upgrade"][0].partition(b",")[0].strip().lower()
    return None if request.http10 or protocol in _DECLINED_UPGRADES else protocol
