"""A codec of HTTP/2 under test, and the frames of its peer."""

from __future__ import annotations

from typing import TypeVar

from hyperframe.frame import Frame, GoAwayFrame

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import ConnectionFailed, Http2Event
from tests.support import http2_frames as frames

EventT = TypeVar("EventT", bound=Http2Event)


class CodecUnderTest:
    """`sent` parses what the codec wants to write; `receive` returns events. SETTINGS were exchanged already,
    with those of `peer_settings`."""

    def __init__(
        self,
        options: Http2Options | None = None,
        *,
        client: bool = False,
        peer_settings: dict[int, int] | None = None,
    ) -> None:
        self.heads = frames.Heads()
        self.codec = Http2Connection(options or Http2Options(), client=client)
        self.codec.start()
        preface = b"" if client else frames.PREFACE
        self.codec.receive(preface + frames.settings(peer_settings) + frames.settings(ack=True))
        self.greeting = self.codec.data_to_send()

    def receive(self, *data: bytes) -> list[Http2Event]:
        return self.codec.receive(b"".join(data))

    def receive_one(self, kind: type[EventT], *data: bytes) -> EventT:
        [event] = self.receive(*data)
        assert isinstance(event, kind), event
        return event

    def sent(self) -> list[Frame]:
        return frames.parse(self.codec.data_to_send())

    def fails(self, *data: bytes) -> tuple[int, str, str]:
        """Code, counter and reason of the connection error that `data` causes; GOAWAY has the code."""
        self.codec.data_to_send()
        failure = self.receive(*data)[-1]
        assert isinstance(failure, ConnectionFailed), failure
        farewell = self.sent()[-1]
        assert isinstance(farewell, GoAwayFrame)
        assert farewell.error_code == failure.error.code
        assert self.codec.streams == {}
        assert self.receive(frames.ping()) == []
        assert not self.codec.wants_write
        return failure.error.code, failure.error.counter, failure.error.reason


class ServerUnderTest(CodecUnderTest):
    def request(
        self, stream_id: int, fields: frames.Fields = frames.GET, *, end: bool = True
    ) -> list[Http2Event]:
        return self.receive(self.heads.frames(stream_id, fields, end=end))


class ClientUnderTest(CodecUnderTest):
    def __init__(
        self, options: Http2Options | None = None, *, peer_settings: dict[int, int] | None = None
    ) -> None:
        super().__init__(options, client=True, peer_settings=peer_settings)
