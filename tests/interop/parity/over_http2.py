"""The requests of rows for HTTP/1.1, sent as HTTP/2."""

from __future__ import annotations

import socket
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from tests.interop.parity.comparison import Fields, Row
from tests.support.raw_http import DEADLINE_S, Answer

# HTTP/2 has none of them (RFC 9113 8.2.2).
_OF_HTTP1 = frozenset(("connection", "upgrade", "transfer-encoding", "keep-alive", "proxy-connection", "te"))
_WINDOW = 65_535
Request = tuple[Fields, bytes]


def request_of(row: Row) -> Request | None:
    """The head and the body. None if HTTP/2 cannot send the same request, or if the row is about more than
    one answer."""
    head, separator, body = row.request.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if not separator or row.then or row.elsewhere or row.tunnel or row.answers != 1:
        return None
    if len(words) != 3 or words[2] != "HTTP/1.1" or not words[1].startswith("/") or words[0] == "CONNECT":
        return None
    fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
    if len(body) > _WINDOW:
        return None
    names = [name for name, _ in fields]
    if row.listener == "strict" and body and dict(fields).get("content-length", "") != str(len(body)):
        return None  # about a body that arrives late
    if names.count("host") != 1 or _OF_HTTP1.intersection(names):
        return None
    authority = next(value for name, value in fields if name == "host")
    pseudo = [(":method", words[0]), (":scheme", "http"), (":authority", authority), (":path", words[1])]
    return [*pseudo, *(field for field in fields if field[0] != "host")], body


def exchange(port: int, request: Request) -> tuple[list[Answer], bool]:
    """The interim responses and the final one, and whether the connection carries another request then. An
    answer of status 0 has only the code of RST_STREAM, or none."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as connection:
        client = Http2Client(connection)
        answers = client.ask(request)
        return answers, client.is_open()


class Http2Client:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._h2 = H2Connection(
            H2Configuration(
                header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self._h2.initiate_connection()
        self._closed = False

    def ask(self, request: Request) -> list[Answer]:
        head, body = request
        return self.read(self.send(head, body, None, ends=True))

    def send(self, head: Fields, body: bytes, trailers: Fields | None, *, ends: bool) -> int:
        """Returns the id of the stream. `flush`, or `read`, sends the frames."""
        stream_id = self._h2.get_next_available_stream_id()
        ends_with_body = ends and trailers is None
        self._h2.send_headers(stream_id, _encoded(head), end_stream=ends_with_body and not body)
        if body:
            self._h2.send_data(stream_id, body, end_stream=ends_with_body)
        if trailers is not None:
            self._h2.send_headers(stream_id, _encoded(trailers), end_stream=True)
        return stream_id

    def read(self, stream_id: int, *, only_head: bool = False) -> list[Answer]:
        answers = [Answer(0, [])]
        while not self._closed and not self._take(stream_id, answers):
            if only_head and answers[-1].status:
                break
        return answers

    def reset(self, stream_id: int, code: int) -> None:
        self._h2.reset_stream(stream_id, code)
        self.flush()

    def flush(self) -> None:
        with suppress(ConnectionError):
            self._socket.sendall(self._h2.data_to_send())

    def _take(self, stream_id: int, answers: list[Answer]) -> bool:
        """Reads once. Returns whether the stream has ended."""
        ended = False
        self.flush()
        try:
            data = self._socket.recv(65536)
            events = self._h2.receive_data(data)
        except (ConnectionError, ProtocolError):
            data, events = b"", []
        self._closed = self._closed or not data
        answer = answers[-1]
        for event in events:
            if isinstance(event, ConnectionTerminated):
                self._closed = True
            if getattr(event, "stream_id", stream_id) != stream_id:
                continue
            match event:
                case InformationalResponseReceived():
                    answers.insert(-1, _answer(event.headers))
                case ResponseReceived():
                    answer.status, answer.fields = (found := _answer(event.headers)).status, found.fields
                case DataReceived():
                    answer.body += event.data.decode("latin-1")
                    self._h2.acknowledge_received_data(event.flow_controlled_length, stream_id)
                case TrailersReceived():
                    answer.trailers = list(event.headers)
                case StreamEnded():
                    answer.framing, ended = "ended", True
                case StreamReset():
                    answer.framing, ended = f"reset {int(event.error_code)}", True
        return ended

    def is_open(self) -> bool:
        probe = [(":method", "GET"), (":scheme", "http"), (":authority", "probe.test"), (":path", "/")]
        if self._closed:
            return False
        return self.ask((probe, b""))[-1].status == 200


def _encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def _answer(headers: Fields) -> Answer:
    status = next(value for name, value in headers if name == ":status")
    return Answer(int(status), [field for field in headers if not field[0].startswith(":")])
