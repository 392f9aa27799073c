"""The settings of one side (RFC 9113 6.5)."""

from __future__ import annotations

from typing import Final

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8

UNLIMITED: Final = 2**32 - 1


class Http2Settings:
    """The values in force; the initial ones are those of RFC 9113 6.5.2."""

    __slots__ = (
        "enable_connect_protocol",
        "header_table_size",
        "initial_window_size",
        "max_concurrent_streams",
        "max_frame_size",
        "max_header_list_size",
    )

    def __init__(self) -> None:
        self.header_table_size = 4096
        self.max_concurrent_streams = UNLIMITED
        self.initial_window_size = 65_535
        self.max_frame_size = 16_384
        self.max_header_list_size = UNLIMITED
        self.enable_connect_protocol = False
