"""Request messages as two readers see them: ours, and h11 as the oracle.

`read` and `read_response` are the only functions that know the sidecar's readers.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import h11

from sidecar.http.h1.request_reader import RequestReader
from sidecar.http.h1.response_reader import ResponseReader
from sidecar.http.headers import Headers
from tests.support.bodies import received

# Fields for one hop: our reader keeps them from what it passes on.
_FOR_THIS_HOP = (b"host", b"connection", b"keep-alive", b"transfer-encoding")
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Message:
    """A complete request. `headers` are without those for one hop."""

    method: bytes
    authority: bytes
    path: bytes
    headers: Headers
    body: bytes
    trailers: Headers


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The complete requests, in order, and the error that followed them, if any."""

    messages: list[Message]
    error: Exception | None


class _Source:
    """A connection that is never asked to pause: the bodies here are small."""

    def pause_body(self) -> None: ...

    def resume_body(self) -> None: ...

    def abandon_body(self) -> None: ...


def read(data: bytes, cuts: list[int]) -> Reading:
    """`data` by the sidecar's reader, in pieces that end at `cuts`."""
    reader = RequestReader(_Source())
    requests = []
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in itertools.pairwise(edges):
        piece, at = data[start:end], 0
        while at < len(piece):
            requests += reader.feed(piece, at)
            at = reader.stopped_at
    messages = [
        Message(
            method=request.method,
            authority=request.authority,
            path=request.path,
            headers=request.headers,
            body=received(request.body),
            trailers=request.body.trailers,
        )
        for request in requests
        if request.complete
    ]
    return Reading(messages=messages, error=reader.error)


def read_response(data: bytes) -> tuple[int, Headers, bytes] | None:
    """Status, headers and body of the response to a GET, if it is complete."""
    reader = ResponseReader(_Source())
    reader.expect(b"GET", None)
    response = reader.feed(data)
    if response is None or response.body.whole is None:
        return None
    return response.status, response.headers, response.body.whole


def read_by_h11(data: bytes) -> Reading:
    """The same by h11. Each request gets a connection of its own, because a server skips empty lines before
    a request (RFC 9112 2.2) and h11 does not."""
    messages: list[Message] = []
    try:
        while rest := data.lstrip(b"\r\n"):
            connection = h11.Connection(h11.SERVER)
            connection.receive_data(rest)
            message = _next_message(connection)
            if message is None:
                break
            messages.append(message)
            if connection.their_state is h11.MUST_CLOSE:
                break
            data, _ = connection.trailing_data
    except h11.RemoteProtocolError as error:
        return Reading(messages=messages, error=error)
    return Reading(messages=messages, error=None)


def _next_message(connection: h11.Connection) -> Message | None:
    request = connection.next_event()
    if not isinstance(request, h11.Request):
        return None
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    if not isinstance(event, h11.EndOfMessage):
        return None
    authority, path = _resolved(bytes(request.target), dict(request.headers)[b"host"])
    return Message(
        method=bytes(request.method),
        authority=authority,
        path=path,
        headers=[(name, value) for name, value in request.headers if name not in _FOR_THIS_HOP],
        body=body,
        trailers=[(bytes(name), bytes(value)) for name, value in event.headers],
    )


def _resolved(target: bytes, host: bytes) -> tuple[bytes, bytes]:
    """h11 leaves a target as it is. RFC 9112 3.2.2: the authority of an absolute one wins over Host."""
    url = _ABSOLUTE.fullmatch(target)
    if url is None:
        return host, target
    return url[1], url[2] if url[2].startswith(b"/") else b"/" + url[2]
