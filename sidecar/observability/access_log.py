"""The access log: writes one line for each request or connection, as its format says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidecar.config.listener import AccessLog
from sidecar.observability.log_file import LogFile
from sidecar.observability.log_format import json_format, text_format
from sidecar.observability.log_operators import LogEntry, LoggedRequest, LoggedResponse
from sidecar.observability.stream_info import StreamInfo

DEFAULT_FORMAT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%"\n'
)


class AccessLogger:
    """Formats entries for one sink."""

    def __init__(self, sink: LogFile, log: AccessLog, *, path: str) -> None:
        """Raises `ConfigError` at `path` for an unknown command operator."""
        self._sink = sink
        self._flags = log.response_flags
        format_, omit_empty = log.format, log.omit_empty_values
        if isinstance(format_, Mapping):
            self._format = json_format(format_, path=path, omit_empty=omit_empty)
        else:
            text = DEFAULT_FORMAT if format_ is None else format_
            self._format = text_format(text, path=path, omit_empty=omit_empty)

    def log(self, info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> None:
        if self._flags is None or _has_flag(info, self._flags):
            self._sink.write(self._format.line(LogEntry(info, request, response)))


def _has_flag(info: StreamInfo, flags: frozenset[str]) -> bool:
    """As Envoy's ``ResponseFlagFilter``: an empty set matches any flag."""
    return not flags.isdisjoint(info.flags.split(",")) if flags else bool(info.flags)
