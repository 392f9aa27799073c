"""Conversations with the `h2` library, over which both sides must agree: ours is the server, or the
client."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.connection import Http2Connection
from sidecar.http.h2.events import (
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    Http2Event,
    InterimReceived,
    PongReceived,
    SettingsChanged,
    StreamReset,
    StreamWritable,
    TrailersReceived,
)
from sidecar.http.h2.stream import Http2Stream
from tests.fuzz.scale import SCALE

Fields = list[tuple[bytes, bytes]]

_names = st.sampled_from([b"x-a", b"x-b", b"accept", b"user-agent", b"authorization"])
_values = st.sampled_from([b"", b"a", b"b", b"c" * 50, b"d" * 700, b"\xe4", b"~!"])
_fields = st.lists(st.tuples(_names, _values), max_size=5)
_bodies = st.integers(0, 40_000)
_picks = st.integers(0, 1000)


class Message:
    """What one side has sent, or received, on a stream."""

    def __init__(self) -> None:
        self.heads: list[Fields] = []
        self.body = 0
        self.ended = False
        self.reset: int | None = None


class Conversation(RuleBasedStateMachine):
    """`ours` and `theirs` exchange all bytes after each step, cut in two. A side reads its DATA at once, or
    later."""

    client = False  # whether ours is

    def __init__(self) -> None:
        super().__init__()
        self.streams: dict[int, Http2Stream] = {}
        self.sent: dict[tuple[bool, int], Message] = {}  # by whether ours sent it
        self.received: dict[tuple[bool, int], Message] = {}
        self.unread: dict[int, int] = {}  # DATA that ours has not consumed
        self.pings = 0

    @initialize(window=st.sampled_from([65_535, 100_000]), table=st.sampled_from([0, 100, 4096]))
    def start(self, window: int, table: int) -> None:
        options = Http2Options(
            initial_stream_window_size=window, initial_connection_window_size=window, hpack_table_size=table
        )
        self.ours = Http2Connection(options, client=self.client)
        self.ours.start()
        config = h2.config.H2Configuration(client_side=not self.client, header_encoding=None)
        self.theirs = h2.connection.H2Connection(config)
        self.theirs.initiate_connection()
        self._exchange(7)

    def _message(self, messages: dict[tuple[bool, int], Message], ours: bool, stream_id: int) -> Message:
        return messages.setdefault((ours, stream_id), Message())

    def _exchange(self, cut: int) -> None:
        for _ in range(400):
            to_theirs, to_ours = self.ours.data_to_send(), self.theirs.data_to_send()
            if not to_theirs and not to_ours:
                return
            for part in (to_ours[:cut], to_ours[cut:]):
                for event in self.ours.receive(part):
                    self._ours_got(event)
            for part in (to_theirs[:cut], to_theirs[cut:]):
                for other in self.theirs.receive_data(part) if part else []:
                    self._theirs_got(other)
        raise AssertionError("the conversation does not end")

    def _ours_got(self, event: Http2Event) -> None:
        if isinstance(event, SettingsChanged | StreamWritable | GoAwayReceived):
            return
        if isinstance(event, PongReceived):
            self.pings -= 1
            return
        assert isinstance(
            event, HeadReceived | InterimReceived | DataReceived | TrailersReceived | StreamReset
        ), event
        message = self._message(self.received, True, event.stream.id)
        if isinstance(event, HeadReceived):
            self.streams[event.stream.id] = event.stream
            message.heads.append(event.headers)
            message.ended = event.end_stream
        elif isinstance(event, InterimReceived):
            message.heads.append(event.headers)
        elif isinstance(event, DataReceived):
            message.body += len(event.data)
            message.ended = event.end_stream
            self.unread[event.stream.id] = self.unread.get(event.stream.id, 0) + len(event.data)
        elif isinstance(event, TrailersReceived):
            message.heads.append(event.trailers)
            message.ended = True
        else:
            assert not event.local, event.reason
            message.reset = event.code

    def _theirs_got(self, event: Any) -> None:
        if isinstance(event, h2.events.PingAckReceived):
            self.pings -= 1
        stream_id = getattr(event, "stream_id", None)
        if not stream_id:
            return
        message = self._message(self.received, False, stream_id)
        if isinstance(event, h2.events.DataReceived):
            message.body += len(event.data)
            self.theirs.acknowledge_received_data(event.flow_controlled_length, stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            message.ended = True
        elif isinstance(event, h2.events.StreamReset):
            message.reset = int(event.error_code)
        elif getattr(event, "headers", None) is not None:
            regular = [(bytes(name), bytes(value)) for name, value in event.headers]
            message.heads.append([field for field in regular if not field[0].startswith(b":")])

    # Choices of a stream.

    def _pick(self, ours: bool, pick: int, *, response: bool) -> int | None:
        """A stream on which one side may send more: it has begun, and is not over."""
        open_ids = []
        for stream_id in sorted({stream_id for _, stream_id in self.sent}):
            mine = self.sent.get((ours, stream_id), Message())
            other = self.received.get((ours, stream_id), Message())
            over = mine.ended or mine.reset is not None or other.reset is not None
            begun = bool(mine.heads) or (response and bool(other.heads))
            if begun and not over:
                open_ids.append(stream_id)
        return open_ids[pick % len(open_ids)] if open_ids else None

    # What ours sends.

    @rule(fields=_fields, end=st.booleans(), cut=_picks)
    def request(self, fields: Fields, end: bool, cut: int) -> None:
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
        if self.client:
            stream = self.ours.open_stream()
            self.ours.send_head(stream, head + fields, end)
            stream_id = stream.id
            self.streams[stream_id] = stream
        else:
            stream_id = self.theirs.get_next_available_stream_id()
            self.theirs.send_headers(stream_id, head + fields, end_stream=end)
        message = self._message(self.sent, self.client, stream_id)
        message.heads.append(fields)
        message.ended = end
        self._exchange(cut)

    @rule(fields=_fields, end=st.booleans(), interim=st.booleans(), pick=_picks)
    def respond(self, fields: Fields, end: bool, interim: bool, pick: int) -> None:
        ours = not self.client
        stream_id = self._pick(ours, pick, response=True)
        if stream_id is None or self._responded(ours, stream_id):
            return
        message = self._message(self.sent, ours, stream_id)
        status = b"103" if interim else b"200"
        self._send_head(ours, stream_id, [(b":status", status), *fields], end and not interim)
        message.heads.append(fields)
        if not interim:
            message.ended = end
            self._final.add(stream_id)
        self._exchange(pick)

    @property
    def _final(self) -> set[int]:
        return self.__dict__.setdefault("final", set())  # type: ignore[no-any-return]

    def _responded(self, ours: bool, stream_id: int) -> bool:
        return stream_id in self._final

    def _may_send_body(self, ours: bool, stream_id: int) -> bool:
        return ours == self.client or stream_id in self._final

    def _send_head(self, ours: bool, stream_id: int, fields: Fields, end: bool) -> None:
        if ours:
            self.ours.send_head(self.streams[stream_id], fields, end)
        else:
            self.theirs.send_headers(stream_id, fields, end_stream=end)

    @rule(ours=st.booleans(), size=_bodies, end=st.booleans(), pick=_picks)
    def send_data(self, ours: bool, size: int, end: bool, pick: int) -> None:
        stream_id = self._pick(ours, pick, response=False)
        if stream_id is None or not self._may_send_body(ours, stream_id):
            return
        if ours:
            if not self.streams[stream_id].writable:
                return
            self.ours.send_data(self.streams[stream_id], b"a" * size, end)
        else:
            size = min(size, self.theirs.local_flow_control_window(stream_id), 16_384)
            self.theirs.send_data(
                stream_id, b"a" * size, end_stream=end, pad_length=pick % 9 if size > 20_000 else None
            )
            if not size and not end:
                self._empty_frames(stream_id)
        message = self._message(self.sent, ours, stream_id)
        message.body += size
        message.ended = end
        self._exchange(pick)

    def _empty_frames(self, stream_id: int) -> None:
        """One is allowed; a frame with payload behind it makes it none of a flood."""
        if self.theirs.local_flow_control_window(stream_id):
            self.theirs.send_data(stream_id, b"a")
            self._message(self.sent, False, stream_id).body += 1

    @rule(ours=st.booleans(), fields=_fields, pick=_picks)
    def send_trailers(self, ours: bool, fields: Fields, pick: int) -> None:
        stream_id = self._pick(ours, pick, response=False)
        if stream_id is None or not self._may_send_body(ours, stream_id) or not fields:
            return
        if ours:
            self.ours.send_trailers(self.streams[stream_id], fields)
        else:
            self.theirs.send_headers(stream_id, fields, end_stream=True)
        message = self._message(self.sent, ours, stream_id)
        message.heads.append(fields)
        message.ended = True
        self._exchange(pick)

    @rule(ours=st.booleans(), code=st.integers(0, 13), pick=_picks)
    def reset(self, ours: bool, code: int, pick: int) -> None:
        stream_id = self._pick(ours, pick, response=True)
        if stream_id is None:
            return
        if ours:
            self.ours.reset(self.streams[stream_id], code)
        else:
            self.theirs.reset_stream(stream_id, code)
        self._message(self.sent, ours, stream_id).reset = code
        self._exchange(pick)

    @rule(share=st.integers(1, 4))
    def consume(self, share: int) -> None:
        for stream_id, size in self.unread.items():
            self.ours.consumed(self.streams[stream_id], size // share)
            self.unread[stream_id] = size - size // share
        self._exchange(3)

    @rule(ours=st.booleans())
    def ping(self, ours: bool) -> None:
        self.pings += 1
        (self.ours.ping if ours else self.theirs.ping)(b"12345678")
        self._exchange(5)

    @rule(window=st.just(0) | st.integers(2000, 70_000), table=st.sampled_from([0, 50, 4096, 10_000]))
    def change_settings(self, window: int, table: int) -> None:
        self.theirs.update_settings({4: window, 1: table})
        self._exchange(11)

    @rule(cut=_picks)
    def pause_and_resume(self, cut: int) -> None:
        self.ours.pause_writing()
        assert self.ours.data_to_send() == b""
        for event in self.ours.resume_writing():
            self._ours_got(event)
        self._exchange(cut)

    @invariant()
    def what_was_received_is_what_was_sent(self) -> None:
        assert self.pings == 0
        for (ours, stream_id), message in self.received.items():
            sent = self.sent.get((not ours, stream_id), Message())
            here = self.sent.get((ours, stream_id), Message())
            assert message.body <= sent.body
            if here.reset is None:
                assert message.heads == sent.heads[: len(message.heads)]
                assert sent.reset is None or message.reset == sent.reset or message.ended
            if message.ended:
                assert (message.heads, message.body) == (sent.heads, sent.body)

    def teardown(self) -> None:
        """With all windows open, everything arrives."""
        if not hasattr(self, "ours"):
            return
        self.theirs.update_settings({4: 1 << 20})
        self.theirs.increment_flow_control_window(1 << 20)
        self._exchange(13)
        for (ours, stream_id), sent in self.sent.items():
            other = self.sent.get((not ours, stream_id), Message())
            if sent.reset is None and other.reset is None:
                received = self.received[not ours, stream_id]
                assert (received.heads, received.body, received.ended) == (sent.heads, sent.body, sent.ended)


class ClientConversation(Conversation):
    client = True


TestServer = Conversation.TestCase
TestServer.settings = settings(max_examples=60 * SCALE, stateful_step_count=30)
TestClient = ClientConversation.TestCase
TestClient.settings = settings(max_examples=60 * SCALE, stateful_step_count=30)
