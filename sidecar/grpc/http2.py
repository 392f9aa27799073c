"""One exchange on an HTTP/2 connection of its own, the client's side. No I/O."""

from __future__ import annotations

from typing import Final, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

from sidecar.grpc.errors import Http2Error
from sidecar.grpc.response import Headers

WINDOW: Final = 1024 * 1024
"""How many bytes the server may send before they are granted again."""

_STREAM: Final = 1
_DEFAULT_WINDOW: Final = 65535
_MAX_HEADER_BYTES: Final = 64 * 1024
_MAX_FRAME_BYTES: Final = 16384  # the default of RFC 9113, which our settings keep
_HEAD_BYTES: Final = 9
_GOAWAY: Final = 7


class Receiver(Protocol):
    """Is told about the response."""

    def head(self, headers: Headers, ended: bool) -> None: ...

    def data(self, data: bytes) -> None:
        """The receiver grants these bytes again when it has handled them."""

    def trailers(self, headers: Headers) -> None: ...

    def end(self) -> None:
        """The response ended, without trailers."""

    def reset(self, code: int) -> None:
        """The server ended the stream with an error."""

    def going_away(self, code: int, reason: bytes) -> None:
        """The server ended the connection, and with it the exchange."""


class Http2Exchange:
    """`receive` the server's bytes; after each call, write `take_output`."""

    def __init__(self, headers: Headers, receiver: Receiver) -> None:
        self._receiver: Final = receiver
        self._input = bytearray()
        self._unsent = bytearray()
        self._end_unsent = False
        self._open = True
        # gRPC sends details that end with a space, which HTTP does not allow. They are passed on nowhere.
        config = H2Configuration(client_side=True, header_encoding=None, validate_inbound_headers=False)
        self._h2: Final = H2Connection(config)
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BYTES,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW - _DEFAULT_WINDOW)
        self._h2.send_headers(_STREAM, headers)

    # To the server.

    def take_output(self) -> bytes:
        return bytes(self._h2.data_to_send())

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Bytes for which the server has no room are sent later."""
        self._unsent += data
        self._end_unsent = self._end_unsent or end
        self._flush()

    def grant(self, count: int) -> None:
        """Lets the server send so many bytes more."""
        if count and self._open:
            self._h2.acknowledge_received_data(count, _STREAM)

    def ping(self) -> None:
        self._h2.ping(bytes(8))

    def close(self) -> None:
        """Tells the server that the exchange and the connection end."""
        if self._open:
            self._open = False
            self._h2.reset_stream(_STREAM, ErrorCodes.CANCEL)
            self._h2.close_connection()

    def _flush(self) -> None:
        while self._open and (self._unsent or self._end_unsent):
            room = min(self._h2.local_flow_control_window(_STREAM), self._h2.max_outbound_frame_size)
            if room <= 0 and self._unsent:
                return
            data = bytes(self._unsent[:room])
            del self._unsent[:room]
            ends = self._end_unsent and not self._unsent
            self._h2.send_data(_STREAM, data, end_stream=ends)
            if ends:
                self._end_unsent = False

    # From the server.

    def receive(self, data: bytes) -> None:
        """Raises `Http2Error`, after which the connection cannot be used."""
        self._input += data
        at = 0
        while self._open and len(self._input) - at >= _HEAD_BYTES:
            length = int.from_bytes(self._input[at : at + 3], "big")
            if length > _MAX_FRAME_BYTES:
                raise Http2Error(f"a frame of {length} bytes")
            end = at + _HEAD_BYTES + length
            if len(self._input) < end:
                break
            self._frame(self._input[at + 3], bytes(self._input[at:end]))
            at = end
        del self._input[:at]

    def _frame(self, kind: int, frame: bytes) -> None:
        if kind == _GOAWAY:
            self._going_away(frame[_HEAD_BYTES:])
            return
        try:
            events = self._h2.receive_data(frame)
        except H2Error as error:
            self._open = False
            raise Http2Error(str(error) or type(error).__name__) from None
        for event in events:
            self._tell(event)
        self._flush()

    def _going_away(self, payload: bytes) -> None:
        """A server that shuts down gracefully finishes the exchange; the library would end it."""
        last, code = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF, int.from_bytes(payload[4:8], "big")
        if last < _STREAM or code:
            self._open = False
            self._receiver.going_away(code, payload[8:])

    def _tell(self, event: Event) -> None:
        receiver = self._receiver
        match event:
            case ResponseReceived():
                self._open = event.stream_ended is None
                receiver.head(list(event.headers), event.stream_ended is not None)
            case InformationalResponseReceived():
                pass
            case DataReceived():
                padding = event.flow_controlled_length - len(event.data)
                self.grant(padding)
                receiver.data(event.data)
                if event.stream_ended is not None:
                    self._open = False
                    receiver.end()
            case TrailersReceived():
                self._open = False
                receiver.trailers(list(event.headers))
            case StreamReset():
                self._open = False
                receiver.reset(event.error_code)
