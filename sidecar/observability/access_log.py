"""The access log: Envoy's command operators, compiled once.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

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
    """What the log reads of a request. A TCP connection has none."""

    method: bytes
    path: bytes
    authority: bytes
    headers: list[tuple[bytes, bytes]]


class LoggedResponse(Protocol):
    headers: list[tuple[bytes, bytes]]


Value = str | int | None
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
    "RESPONSE_FLAGS": lambda info: info.flags,
    "BYTES_RECEIVED": lambda info: info.bytes_received,
    "BYTES_SENT": lambda info: info.bytes_sent,
    "DURATION": lambda info: int((info.end_s - info.start_s) * 1000),
    "ROUTE_NAME": lambda info: info.route_name,
    "VIRTUAL_CLUSTER_NAME": lambda info: None,
    "UPSTREAM_CLUSTER": lambda info: info.cluster,
    "UPSTREAM_HOST": lambda info: info.upstream_address,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda info: info.upstream_failure,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda info: info.attempts,
    "UPSTREAM_PEER_URI_SAN": lambda info: info.upstream_peer_id,
    "DOWNSTREAM_REMOTE_ADDRESS": lambda info: info.connection.remote_address,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda info: info.connection.remote_address.host,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda info: info.connection.local_address,
    "DOWNSTREAM_PEER_URI_SAN": lambda info: info.connection.peer_id,
    "DOWNSTREAM_LOCAL_URI_SAN": lambda info: info.connection.local_id,
    "DOWNSTREAM_TLS_VERSION": lambda info: info.connection.tls_version,
    "REQUESTED_SERVER_NAME": lambda info: info.connection.server_name,
    "CONNECTION_ID": lambda info: info.connection.id,
}


def compile_format(text: str, *, path: str) -> list[str | Operator]:
    """Splits a format into literals and operators. Raises `ConfigError` at `path` for one that is not
    known."""
    parts: list[str | Operator] = []
    position = 0
    for match in _OPERATOR.finditer(text):
        if match.start() > position:
            parts.append(text[position : match.start()])
        position = match.end()
        parts.append("%" if match[0] == "%%" else _operator(match[1], match[2], match[3], path))
    rest = text[position:]
    if "%" in rest:
        raise ConfigError(path, f"not a command operator: {rest[rest.index('%') :][:40]!r}")
    if rest:
        parts.append(rest)
    return parts


def _operator(name: str, argument: str | None, length: str | None, path: str) -> Operator:
    limit = int(length) if length else None
    if name in ("REQ", "RESP") and argument:
        return _header_operator(name, argument.lower(), limit)
    plain = _PLAIN_OPERATORS.get(name)
    if plain is None or argument:
        raise ConfigError(path, f"command operator %{name}% is not supported")

    def evaluate(info: StreamInfo, _: LoggedRequest | None, __: LoggedResponse | None) -> Value:
        value = plain(info)
        if isinstance(value, int) or value is None:
            return value
        return _harmless(str(value))[:limit] or None

    return evaluate


def _header_operator(name: str, argument: str, limit: int | None) -> Operator:
    wanted = [part.encode() for part in argument.split("?")]

    def evaluate(_: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> str | None:
        for header in wanted:
            value = _request_header(request, header) if name == "REQ" else _find(response, header)
            if value:
                return _harmless(value.decode("latin-1"))[:limit]
        return None

    return evaluate


def _request_header(request: LoggedRequest | None, name: bytes) -> bytes | None:
    if request is None:
        return None
    if name == b":method":
        return request.method
    if name == b":path":
        return request.path
    if name == b":authority":
        return request.authority
    return _find(request, name)


def _find(message: LoggedRequest | LoggedResponse | None, name: bytes) -> bytes | None:
    if message is None:
        return None
    return next((value for header, value in message.headers if header == name), None)


def _harmless(text: str) -> str:
    """What a client said (its headers, its SNI) must not forge a line of the log, or a field of it."""
    return text.translate(_ESCAPES) if not text.isprintable() or '"' in text else text


_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160), 34)}


class AccessLogger:
    """Formats entries for one sink: a line of text, or a JSON object where `format` is a mapping."""

    def __init__(self, sink: LogFile, format_: str | Mapping[str, str] | None, *, path: str) -> None:
        self._sink = sink
        if isinstance(format_, Mapping):
            self._json = {key: compile_format(value, path=path) for key, value in format_.items()}
            self._text: list[str | Operator] = []
        else:
            self._json = {}
            self._text = compile_format(format_ or DEFAULT_FORMAT, path=path)

    def log(self, info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None) -> None:
        if self._json:
            entry = {key: _evaluate_json(parts, info, request, response) for key, parts in self._json.items()}
            line = json.dumps(entry, separators=(",", ":")) + "\n"
        else:
            line = _evaluate(self._text, info, request, response)
        self._sink.write(line.encode())


def _evaluate(
    parts: list[str | Operator],
    info: StreamInfo,
    request: LoggedRequest | None,
    response: LoggedResponse | None,
) -> str:
    values = (part if isinstance(part, str) else part(info, request, response) for part in parts)
    return "".join("-" if value is None else str(value) for value in values)


def _evaluate_json(
    parts: list[str | Operator],
    info: StreamInfo,
    request: LoggedRequest | None,
    response: LoggedResponse | None,
) -> Value:
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0](info, request, response)  # null rather than "-", as Envoy
    return _evaluate(parts, info, request, response)
