"""The error codes of RFC 9113 7, and the errors of a stream and of a connection."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sidecar.errors import SidecarError


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


# Plain integers: a code that the peer sends may be an unknown one, and these cost no look-up.
NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11


def code_name(code: int) -> str:
    """The name of a code, or the number of an unknown one."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)


class Http2ConnectionError(SidecarError):
    """Ends a connection: `code` is sent in GOAWAY. `counter` is the statistic of Envoy that counts it, below
    ``http2.``; empty if none does."""

    def __init__(self, code: int, reason: str, counter: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.counter = counter


class Http2StreamError(SidecarError):
    """Ends one stream: `code` is sent in RST_STREAM. `counter` as in `Http2ConnectionError`."""

    def __init__(self, code: int, reason: str, counter: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.counter = counter


class Http2UnavailableError(SidecarError):
    """A client cannot open a stream: the peer has sent GOAWAY, or the connection's stream ids are used up."""
