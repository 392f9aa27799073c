"""Parses responses: the client's half of HTTP/1.1 parsing, without I/O."""

from __future__ import annotations

from sidecar.errors import UpstreamProtocolError
from sidecar.http.body import EMPTY, BodySource
from sidecar.http.h1.head import ResponseHead, check_beginning, read_response_head
from sidecar.http.h1.incoming import IncomingMessage
from sidecar.http.h1.message_reader import MessageReader
from sidecar.http.h1.reader_state import (
    CLOSED,
    HEAD_OF_TUNNEL,
    HEAD_WITH_CHUNKS,
    HEAD_WITH_LENGTH,
    HEAD_WITHOUT_BODY,
    HEAD_WITHOUT_FRAMING,
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


class ResponseReader(MessageReader):
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
        "_request_method",
        "_response",
        "_upgrade",
        "interim",
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
        super().__init__(source, rules)
        self._max_interim_bytes = max_headers_bytes
        self.interim: list[tuple[int, Headers]] = []
        self._interim_bytes = 0  # of all interim responses before one response
        self._request_method = b""
        self._upgrade: bytes | None = None
        self._response = IncomingResponse(0, [], False)
        self._arrived: IncomingResponse | None = None

    def expect(self, method: bytes, upgrade: bytes | None) -> None:
        self.state = TRANSITIONS[self.state][MESSAGE_AWAITED]
        self._request_method = method
        self._upgrade = upgrade
        self._interim_bytes = 0

    def feed(self, data: bytes) -> IncomingResponse | None:
        at, size = 0, len(data)
        try:
            while at < size and self.state is not CLOSED:
                at = self.read_head(data, at) if self.message is None else self.read_body(data, at)
        except UpstreamProtocolError as error:
            self.fail(error)
        if self.message is not None:
            self.deliver_unfinished()
        arrived = self._arrived
        self._arrived = None
        return arrived

    def feed_eof(self) -> bool:
        """Handles an EOF from the upstream. Returns whether it ends the message (RFC 9112 6.3)."""
        if self.state is not TUNNEL and self.state is not UNFRAMED_BODY:
            return False
        self.end_body(None)
        return True

    # The direction of a `MessageReader`.

    def parse_head(self, data: bytes, at: int) -> int:
        head: ResponseHead | None = read_response_head(data, at, self.rules)
        if head is None:
            return 0
        status, http11, keep_alive, fields, special, length, end = head
        if status < 200 and status != 101:
            if status < 100:
                raise UpstreamProtocolError(f"invalid status {status} of a response")
            self._add_interim(status, fields)
            self.state = TRANSITIONS[self.state][INTERIM_ENDS]
            return end
        response = IncomingResponse(status, fields, keep_alive)
        chunked = special is not None and self._read_special(response, http11, special)
        self._response = response
        self.message = response
        return self.begin_body(self._framing(response, chunked, length, special), length, data, end)

    def check_beginning(self, beginning: bytes) -> None:
        check_beginning(beginning, response=True, rules=self.rules)

    def deliver(self) -> None:
        self._arrived = self._response

    def without_forbidden(self, trailers: Headers) -> Headers:
        return [field for field in trailers if field[0] not in HOP_BY_HOP]

    def _framing(
        self, response: IncomingResponse, chunked: bool, length: int, special: Headers | None
    ) -> Event:
        """RFC 9112 6.3."""
        status, method = response.status, self._request_method
        if status == 101:
            self._check_switch(special or [])
            response.tunnel = True
            return HEAD_OF_TUNNEL
        if method == b"CONNECT" and status < 300:  # RFC 9110 9.3.6
            if chunked or length >= 0:
                raise UpstreamProtocolError(
                    "the response to CONNECT has a Content-Length or a Transfer-Encoding"
                )
            response.tunnel = True
            return HEAD_OF_TUNNEL
        if status == 204 or status == 304:  # noqa: PLR1714 - quicker than a set, for each response
            return HEAD_WITHOUT_BODY  # framing fields are ignored
        if length < 0 and not chunked:
            response.keep_alive = False  # not even after HEAD: the response to GET would end the connection
            return HEAD_WITHOUT_BODY if method == b"HEAD" else HEAD_WITHOUT_FRAMING
        if chunked and method != b"HEAD":
            return HEAD_WITH_CHUNKS
        return HEAD_WITH_LENGTH if length > 0 and method != b"HEAD" else HEAD_WITHOUT_BODY

    # Less frequent cases.

    def _add_interim(self, status: int, fields: Headers) -> None:
        """Bounds all interim responses together like one head, since they are written without
        backpressure."""
        headers = without_length(fields)  # RFC 9110 8.6
        self._interim_bytes += len(response_head(status, headers))
        if self._interim_bytes > self._max_interim_bytes:
            raise UpstreamProtocolError(f"more than {self._max_interim_bytes} bytes of interim responses")
        self.interim.append((status, headers))

    def _read_special(self, response: IncomingResponse, http11: bool, special: Headers) -> bool:
        """Reads the fields for this hop. Returns whether the body is chunked."""
        codings = [value for name, value in special if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
            # RFC 9112 6.1: with an unknown coding, the end of the body is unknown too.
            raise UpstreamProtocolError(f"Transfer-Encoding {printable(codings[0])} in a response")
        if codings and not http11:
            raise UpstreamProtocolError("Transfer-Encoding in a response of HTTP/1.0")
        named = {
            token.strip().lower()
            for name, value in special
            if name == b"connection"
            for token in value.split(b",")
        } - {b"content-length"}
        if named:
            response.headers = [field for field in response.headers if field[0] not in named]
        return bool(codings)

    def _check_switch(self, special: Headers) -> None:
        """RFC 9110 15.2.2: a 101 must switch to the requested protocol."""
        chosen = [value.lower() for name, value in special if name == b"upgrade"]
        if self._upgrade is None or chosen != [self._upgrade]:
            raise UpstreamProtocolError("a 101 that does not switch to the requested protocol")
