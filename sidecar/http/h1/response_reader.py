"""Parses responses: the client's half of HTTP/1.1 parsing, without I/O."""

from __future__ import annotations

from typing import Final

import httptools

from sidecar.errors import RequestError, UpstreamProtocolError
from sidecar.http.body import EMPTY, BodySource
from sidecar.http.h1.message_reader import IncomingMessage, MessageReader
from sidecar.http.h1.reader_state import (
    CLOSED,
    HEAD_OF_TUNNEL,
    HEAD_WITH_CHUNKS,
    HEAD_WITHOUT_BODY,
    INTERIM_ENDS,
    MESSAGE_AWAITED,
    TRANSITIONS,
    TUNNEL,
    UNFRAMED_BODY,
    Event,
)
from sidecar.http.h1.rules import ReaderRules, printable
from sidecar.http.h1.writer import response_head, without_length
from sidecar.http.headers import HOP_BY_HOP, Headers

# Many servers send it in every response. It is redundant: an HTTP/1.1 connection is kept by default.
_KEEP_ALIVE: Final = [(b"connection", b"keep-alive")]


_WITHOUT_BODY: Final = (204, 304)


class IncomingResponse(IncomingMessage):
    """A response as it was received. `tunnel`: a 101, or a 2xx to CONNECT; `body` is the data of the
    tunnel."""

    __slots__ = ("status", "tunnel")

    def __init__(self, status: int, headers: Headers, keep_alive: bool) -> None:
        self.headers = headers  # not by `super`, whose call would cost more than these lines
        self.body = EMPTY
        self.stream = None
        self.keep_alive = keep_alive
        self.complete = False
        self.received_bytes = 0
        self.status = status
        self.tunnel = False


class ResponseReader:
    """Call `expect`, then `feed` with received data. `feed` returns the response once, when its head is
    complete, with its body: a whole body if it is complete too, or else a stream, which later bytes are added
    to.

    `feed` does not raise: `error` is the upstream's error. Bytes before a request are an error, so that they
    are not taken for the next response.
    """

    __slots__ = (
        "_arrived",
        "_interim_bytes",
        "_max_interim_bytes",
        "_parser",
        "_request_method",
        "_response",
        "_upgrade",
        "interim",
        "messages",
    )

    def __init__(
        self, source: BodySource, *, max_headers_bytes: int = 80 * 1024, max_headers_count: int = 100
    ) -> None:
        rules = ReaderRules(
            max_headers_bytes=max_headers_bytes,
            max_headers_count=max_headers_count,
            malformed=UpstreamProtocolError,
            too_large=UpstreamProtocolError,
        )
        self.messages = MessageReader(self, source, rules, HOP_BY_HOP)
        self._max_interim_bytes = max_headers_bytes
        self.interim: list[tuple[int, Headers]] = []
        self._interim_bytes = 0  # of all interim responses before one response
        self._request_method = b""
        self._upgrade: bytes | None = None
        self._response = IncomingResponse(0, [], False)
        self._arrived: IncomingResponse | None = None

    @property
    def error(self) -> RequestError | None:
        return self.messages.error

    def expect(self, method: bytes, upgrade: bytes | None) -> None:
        messages = self.messages
        messages.state = TRANSITIONS[messages.state][MESSAGE_AWAITED]
        self._request_method = method
        self._upgrade = upgrade
        self._interim_bytes = 0

    def feed(self, data: bytes) -> IncomingResponse | None:
        messages, at, size = self.messages, 0, len(data)
        try:
            while at < size and messages.state is not CLOSED:
                at = (
                    messages.read_head(data, at) if messages.message is None else messages.read_body(data, at)
                )
        except UpstreamProtocolError as error:
            messages.fail(error)
        if messages.message is not None:
            messages.deliver_unfinished()
        arrived, self._arrived = self._arrived, None
        return arrived

    def feed_eof(self) -> bool:
        """Handles an EOF from the upstream. Returns whether it ends the message (RFC 9112 6.3)."""
        messages = self.messages
        if messages.state is not TUNNEL and messages.state is not UNFRAMED_BODY:
            return False
        messages.end_body(None)
        return True

    # The direction of a `MessageReader`.

    def new_parser(self, reader: MessageReader, /) -> httptools.HttpResponseParser:
        parser = self._parser = httptools.HttpResponseParser(reader)
        return parser

    def read_fields(self) -> Event:
        messages, parser = self.messages, self._parser
        status = parser.get_status_code()
        if status < 100:
            raise UpstreamProtocolError(f"invalid status {status} of a response")
        if status < 200 and status != 101:
            self._add_interim(status)
            return INTERIM_ENDS
        response = IncomingResponse(status, messages.fields, parser.should_keep_alive())
        special = messages.special
        chunked = bool(special) and special != _KEEP_ALIVE and self._read_special(response)
        self._response = messages.message = response
        if status == 101:
            self._check_switch()
            response.tunnel = True
            return HEAD_OF_TUNNEL
        if self._request_method == b"CONNECT" and status < 300:  # RFC 9110 9.3.6
            if chunked or messages.length:
                raise UpstreamProtocolError(
                    "the response to CONNECT has a Content-Length or a Transfer-Encoding"
                )
            response.tunnel = True
            return HEAD_OF_TUNNEL
        if (
            status in _WITHOUT_BODY or self._request_method == b"HEAD"
        ):  # RFC 9112 6.3: framing fields are ignored
            return HEAD_WITHOUT_BODY
        return HEAD_WITH_CHUNKS if chunked else messages.framing()

    def deliver(self) -> None:
        self._arrived = self._response

    def message_ended(self) -> None:
        if self._request_method == b"HEAD":
            self.messages.renew_parser()  # the old one expects the body that the head describes

    def without_forbidden(self, trailers: Headers, /) -> Headers:
        return [field for field in trailers if field[0] not in HOP_BY_HOP]

    # Less frequent cases.

    def _add_interim(self, status: int) -> None:
        """Bounds all interim responses together like one head, since they are written without
        backpressure."""
        headers = without_length(self.messages.fields)  # RFC 9110 8.6
        self._interim_bytes += len(response_head(status, headers))
        if self._interim_bytes > self._max_interim_bytes:
            raise UpstreamProtocolError(f"more than {self._max_interim_bytes} bytes of interim responses")
        self.interim.append((status, headers))

    def _read_special(self, response: IncomingResponse) -> bool:
        """Reads the fields for this hop. Returns whether the body is chunked."""
        codings = [value for name, value in self.messages.special if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            # RFC 9112 6.1: with an unknown coding, the end of the body is unknown too.
            raise UpstreamProtocolError(f"Transfer-Encoding {printable(codings[0])} in a response")
        if codings and self._parser.get_http_version() != "1.1":
            raise UpstreamProtocolError("Transfer-Encoding in a response of HTTP/1.0")
        named = {
            token.strip().lower()
            for name, value in self.messages.special
            if name == b"connection"
            for token in value.split(b",")
        } - {b"content-length"}
        response.headers = [field for field in response.headers if field[0] not in named]
        return bool(codings)

    def _check_switch(self) -> None:
        """RFC 9110 15.2.2: a 101 must switch to the requested protocol."""
        chosen = [value.lower() for name, value in self.messages.special if name == b"upgrade"]
        if self._upgrade is None or chosen != [self._upgrade]:
            raise UpstreamProtocolError("a 101 that does not switch to the requested protocol")
