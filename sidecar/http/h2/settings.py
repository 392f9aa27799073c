"""The settings of one side (RFC 9113 6.5)."""

from __future__ import annotations

from typing import Final

from sidecar.config.http2 import Http2Options
from sidecar.http.h2.error_codes import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    Http2ConnectionError,
)
from sidecar.http.h2.frames import MAX_WINDOW, read_number

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8

UNLIMITED: Final = 2**32 - 1
_SETTING_BYTES: Final = 6
_MAX_SETTINGS: Final = 32  # in one frame
_MIN_FRAME_SIZE: Final = 2**14
_MAX_FRAME_SIZE: Final = 2**24 - 1


class Http2Settings:
    """The values in force; the initial ones are those of RFC 9113 6.5.2. MAX_FRAME_SIZE is not kept: no
    larger frames are sent than every peer accepts."""

    __slots__ = (
        "enable_connect_protocol",
        "header_table_size",
        "initial_window_size",
        "max_concurrent_streams",
        "max_header_list_size",
    )

    def __init__(self) -> None:
        self.header_table_size = 4096
        self.max_concurrent_streams = UNLIMITED
        self.initial_window_size = 65_535
        self.max_header_list_size = UNLIMITED
        self.enable_connect_protocol = False

    def apply(self, data: bytes, at: int, end: int, *, from_server: bool) -> None:
        """Reads the payload of a SETTINGS frame, whose later values replace earlier ones. Unknown settings
        are ignored. Raises `Http2ConnectionError`."""
        if (end - at) % _SETTING_BYTES:
            raise Http2ConnectionError(FRAME_SIZE_ERROR, f"SETTINGS of {end - at} bytes")
        if end - at > _SETTING_BYTES * _MAX_SETTINGS:
            raise Http2ConnectionError(ENHANCE_YOUR_CALM, f"SETTINGS with more than {_MAX_SETTINGS} values")
        for start in range(at, end, _SETTING_BYTES):
            name = data[start] << 8 | data[start + 1]
            value = read_number(data, start + 2)
            if name == HEADER_TABLE_SIZE:
                self.header_table_size = value
            elif name == ENABLE_PUSH:
                _check(value <= (0 if from_server else 1), "ENABLE_PUSH", value)
            elif name == MAX_CONCURRENT_STREAMS:
                self.max_concurrent_streams = value
            elif name == INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise Http2ConnectionError(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {value}")
                self.initial_window_size = value
            elif name == MAX_FRAME_SIZE:
                _check(_MIN_FRAME_SIZE <= value <= _MAX_FRAME_SIZE, "MAX_FRAME_SIZE", value)
            elif name == MAX_HEADER_LIST_SIZE:
                self.max_header_list_size = value
            elif name == ENABLE_CONNECT_PROTOCOL:  # RFC 8441 3: once it is on, it stays on
                _check(
                    value == 1 or (value == 0 and not self.enable_connect_protocol),
                    "ENABLE_CONNECT_PROTOCOL",
                    value,
                )
                self.enable_connect_protocol = value == 1


def announced(options: Http2Options, *, client: bool) -> list[tuple[int, int]]:
    """The settings that this side sends, as Envoy does."""
    settings = [
        (HEADER_TABLE_SIZE, options.hpack_table_size),
        (MAX_CONCURRENT_STREAMS, options.max_concurrent_streams),
        (INITIAL_WINDOW_SIZE, options.initial_stream_window_size),
    ]
    if client:
        return [(ENABLE_PUSH, 0), *settings]
    return [*settings, (ENABLE_CONNECT_PROTOCOL, 1)] if options.allow_connect else settings


def _check(valid: bool, name: str, value: int) -> None:
    if not valid:
        raise Http2ConnectionError(PROTOCOL_ERROR, f"{name} is {value}")
