"""The access log: Envoy's command operators, compiled once, as a line of text or as a JSON object.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage

Headers are bytes that need not be UTF-8. In JSON, a value is decoded as UTF-8, or as Latin-1 if it is invalid
UTF-8, as in Envoy. In text, where Envoy writes the bytes unchanged, quotation marks, control characters, line
separators and bytes that are invalid UTF-8 become ``\\xNN``, so that a client cannot forge a line or a field
of the log. A length limit counts the bytes of the value before that.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from sidecar.config.listener import AccessLog, JsonFormat
from sidecar.errors import ConfigError
from sidecar.observability.log_file import LogFile
from sidecar.observability.stream_info import StreamInfo

DEFAULT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" '
    '"%UPSTREAM_HOST%"\n'
)


class LoggedRequest(Protocol):
    """The fields of a request that the log reads. A TCP connection has no request."""

    method: bytes
    path: bytes
    authority: bytes
    scheme: bytes
    headers: list[tuple[bytes, bytes]]


class LoggedResponse(Protocol):
    headers: list[tuple[bytes, bytes]]


Value = str | bytes | int | None
"""``bytes`` are as received; None is empty."""
Operator = Callable[[StreamInfo, LoggedRequest | None, LoggedResponse | None], Value]

_OPERATOR = re.compile(r"%(?:([A-Z0-9_]+)(?:\(([^)%]*)\))?(?::(\d+))?)?%")


def _start_time(info: StreamInfo) -> str:
    stamp = datetime.fromtimestamp(info.wall_start_s, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"


_PLAIN_OPERATORS: Mapping[str, Callable[[StreamInfo], object]] = {
    "START_TIME": _start_time,
    "PROTOCOL": lambda info: info.protocol,
    "RESPONSE_CODE": lambda info: info.status,
    "RESPONSE_CODE_DETAILS": lambda info: info.details,
    "RESPONSE_FLAGS": lambda info: info.flags or "-",  # never empty, not even in JSON
    "BYTES_RECEIVED": lambda info: info.bytes_received,
    "BYTES_SENT": lambda info: info.bytes_sent,
    "DURATION": lambda info: int((info.end_s - info.start_s) * 1000),
    "ROUTE_NAME": lambda info: info.route_name,
    "VIRTUAL_CLUSTER_NAME": lambda info: None,
    "UPSTREAM_CLUSTER": lambda info: info.cluster,
    "UPSTREAM_CLUSTER_RAW": lambda info: info.cluster,
    "UPSTREAM_HOST": lambda info: info.upstream_address,
    "UPSTREAM_LOCAL_ADDRESS": lambda info: info.upstream_local_address,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda info: info.upstream_failure,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda info: info.attempts,
    "UPSTREAM_PEER_URI_SAN": lambda info: info.upstream_peer_id,
    "DOWNSTREAM_REMOTE_ADDRESS": lambda info: info.connection.remote_address,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda info: info.connection.remote_address.host,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda info: info.connection.destination,
    "DOWNSTREAM_PEER_URI_SAN": lambda info: info.connection.peer_id,
    "DOWNSTREAM_LOCAL_URI_SAN": lambda info: info.connection.local_id,
    "DOWNSTREAM_TLS_VERSION": lambda info: info.connection.tls_version,
    "REQUESTED_SERVER_NAME": lambda info: info.connection.server_name,
    "CONNECTION_ID": lambda info: info.connection.id,
    "CONNECTION_TERMINATION_DETAILS": lambda info: None,  # of filters that are not supported
}


def compile_format(text: str, *, path: str) -> list[str | Operator]:
    """Splits a format into literals and operators. Raises `ConfigError` at `path` for an unknown operator."""
    parts: list[str | Operator] = []
    position = 0
    for match in _OPERATOR.finditer(text):
        if match.start() > position:
            parts.append(text[position : match.start()])
        position = match.end()
        parts.append("%" if match[0] == "%%" else _operator(match[1], match[2], match[3], path))
    rest = text[position:]
    if "%" in rest:
        raise ConfigError(path, f"invalid command operator: {rest[rest.index('%') :][:40]!r}")
    if rest:
        parts.append(rest)
    return parts


def _operator(name: str, argument: str | None, length: str | None, path: str) -> Operator:
    if name in ("REQ", "RESP") and argument:
        return _header_operator(name, argument.lower(), int(length) if length else None)
    plain = _PLAIN_OPERATORS.get(name)
    if plain is None or argument:
        raise ConfigError(path, f"command operator %{name}% is not supported")
    if length:
        raise ConfigError(path, f"command operator %{name}% takes no length")

    def evaluate(info: StreamInfo, _: LoggedRequest | None, __: LoggedResponse | None) -> Value:
        value = plain(info)
        if isinstance(value, int) or value is None:
            return value
        return str(value) or None

    return evaluate


def _header_operator(name: str, argument: str, limit_bytes: int | None) -> Operator:
    wanted = [part.encode() for part in argument.split("?")]

    def evaluate(_: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> Value:
        for header in wanted:
            value = _request_header(request, header) if name == "REQ" else _find(response, header)
            if value is not None:
                return value[:limit_bytes]
        return None

    return evaluate


def _request_header(request: LoggedRequest | None, name: bytes) -> bytes | None:
    """None, not empty, for the path of CONNECT, and for parts that a malformed request lacks."""
    if request is None:
        return None
    if name == b":method":
        return request.method or None
    if name == b":path":
        return request.path or None
    if name in (b":authority", b"host"):
        return request.authority or None
    if name == b":scheme":
        return request.scheme
    return _find(request, name)


def _find(message: LoggedRequest | LoggedResponse | None, name: bytes) -> bytes | None:
    if message is None:
        return None
    return next((value for header, value in message.headers if header == name), None)


class AccessLogger:
    """Formats entries for one sink."""

    def __init__(self, sink: LogFile, log: AccessLog, *, path: str) -> None:
        """Raises `ConfigError` at `path` for an unknown command operator."""
        self._sink = sink
        self._flags = log.response_flags
        format_, omit_empty = log.format, log.omit_empty_values
        if isinstance(format_, Mapping):
            self._line = _json_line(compile_json(format_, path=path, omit_empty=omit_empty))
        else:
            parts = compile_format(DEFAULT_FORMAT if format_ is None else format_, path=path)
            self._line = _text(parts, "" if omit_empty else "-")

    def log(self, info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> None:
        if self._flags is not None and not _has_flag(info, self._flags):
            return
        # A lone surrogate cannot be encoded: its escape sequence is written, which is valid in JSON too.
        self._sink.write(self._line(info, request, response).encode(errors="backslashreplace"))


def _has_flag(info: StreamInfo, flags: frozenset[str]) -> bool:
    """As Envoy's ``ResponseFlagFilter``: an empty set matches any flag."""
    return not flags.isdisjoint(info.flags.split(",")) if flags else bool(info.flags)


Line = Callable[[StreamInfo, LoggedRequest | None, LoggedResponse | None], str]
Node = Callable[[StreamInfo, LoggedRequest | None, LoggedResponse | None], object]


# Text.


def _text(parts: list[str | Operator], empty: str) -> Line:
    def line(info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> str:
        values = (
            part if isinstance(part, str) else _text_value(part(info, request, response), empty)
            for part in parts
        )
        return "".join(values)

    return line


def _text_value(value: Value, empty: str) -> str:
    if value is None:
        return empty
    if isinstance(value, int):
        return str(value)
    return _safe(value.decode(errors="surrogateescape") if isinstance(value, bytes) else value)


def _safe(text: str) -> str:
    if text.isprintable() and '"' not in text:
        return text
    return "".join(
        _escaped(char) if char == '"' or unicodedata.category(char) in _UNSAFE else char for char in text
    )


# Control characters, line and paragraph separators, and the surrogates of bytes that are invalid UTF-8.
_UNSAFE = frozenset(("Cc", "Zl", "Zp", "Cs"))


def _escaped(char: str) -> str:
    try:
        data = char.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return f"\\u{ord(char):04x}"
    return "".join(f"\\x{byte:02x}" for byte in data)


# JSON.


def compile_json(template: JsonFormat, *, path: str, omit_empty: bool) -> Node:
    """Compiles a template, whose strings are formats. A string of one command operator keeps the operator's
    type, and becomes null if it is empty. `omit_empty` omits null values, and objects without fields."""
    if isinstance(template, Mapping):
        return _json_object(template, path=path, omit_empty=omit_empty)
    if isinstance(template, tuple):
        nodes = [compile_json(item, path=path, omit_empty=omit_empty) for item in template]

        def items(
            info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None
        ) -> list[object]:
            values = [node(info, request, response) for node in nodes]
            return [value for value in values if value is not None] if omit_empty else values

        return items
    if isinstance(template, str):
        return _json_string(compile_format(template, path=path), "" if omit_empty else "-")
    return lambda info, request, response: template


def _json_object(template: Mapping[str, JsonFormat], *, path: str, omit_empty: bool) -> Node:
    nodes = {key: compile_json(value, path=path, omit_empty=omit_empty) for key, value in template.items()}

    def values(
        info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None
    ) -> dict[str, object] | None:
        entry = {key: node(info, request, response) for key, node in nodes.items()}
        if omit_empty:
            return {key: value for key, value in entry.items() if value is not None} or None
        return entry

    return values


def _json_string(parts: list[str | Operator], empty: str) -> Node:
    if len(parts) == 1 and not isinstance(parts[0], str):
        alone = parts[0]
        return lambda info, request, response: _json_value(alone(info, request, response))

    def joined(info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> str:
        values = (
            part if isinstance(part, str) else _json_value(part(info, request, response)) for part in parts
        )
        return "".join(empty if value is None else str(value) for value in values)

    return joined


def _json_value(value: Value) -> str | int | None:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _json_line(entry: Node) -> Line:
    def line(info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> str:
        values = entry(info, request, response)
        return json.dumps(values or {}, separators=(",", ":"), ensure_ascii=False) + "\n"

    return line
