"""Envoy's command operators of access logs, compiled when the configuration arrives.

https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from sidecar.config.endpoint import SocketAddress
from sidecar.errors import ConfigError
from sidecar.grpc_status import NO_STATUS, GrpcStatus
from sidecar.observability.stream_info import StreamInfo

_OPERATOR: Final = re.compile(r"%(?:([A-Z0-9_]+)(?:\(([^)%]*)\))?(?::(\d+))?)?%")


class LoggedRequest(Protocol):
    """The fields of a request that the log reads. A TCP connection has no request."""

    method: bytes
    path: bytes
    authority: bytes
    scheme: bytes
    headers: list[tuple[bytes, bytes]]


class LoggedResponse(Protocol):
    headers: list[tuple[bytes, bytes]]


class LogEntry:
    """One request or connection, at its end."""

    __slots__ = ("info", "request", "request_headers", "response_headers")

    def __init__(
        self, info: StreamInfo, request: LoggedRequest | None, response: LoggedResponse | None
    ) -> None:
        self.info = info
        self.request = request
        self.request_headers: list[tuple[bytes, bytes]] = [] if request is None else request.headers
        self.response_headers: list[tuple[bytes, bytes]] = [] if response is None else response.headers


class Operator:
    """One command operator. `is_number`: its value is a JSON number."""

    __slots__ = ("is_number",)

    def __init__(self, *, is_number: bool = False) -> None:
        self.is_number = is_number

    def value(self, entry: LogEntry) -> bytes | None:
        """The value as it was received; None is empty."""
        raise NotImplementedError


class _Number(Operator):
    __slots__ = ("_read",)

    def __init__(self, read: Callable[[StreamInfo], int]) -> None:
        super().__init__(is_number=True)
        self._read = read

    def value(self, entry: LogEntry) -> bytes | None:
        return str(self._read(entry.info)).encode()


class _Text(Operator):
    __slots__ = ("_read",)

    def __init__(self, read: Callable[[StreamInfo], str]) -> None:
        super().__init__()
        self._read = read

    def value(self, entry: LogEntry) -> bytes | None:
        text = self._read(entry.info)
        try:
            return text.encode() or None
        except UnicodeEncodeError:  # a lone surrogate
            return text.encode(errors="surrogatepass")


class _Address(Operator):
    __slots__ = ("_read",)

    def __init__(self, read: Callable[[StreamInfo], SocketAddress | None]) -> None:
        super().__init__()
        self._read = read

    def value(self, entry: LogEntry) -> bytes | None:
        address = self._read(entry.info)
        if address is None:
            return None
        host: str = address.host
        port: int = address.port
        # As `str` of the address, which costs much more if only this module is compiled.
        return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


class _GrpcStatus(Operator):
    """The status of a gRPC call, by its number or its name."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[bytes, ...]) -> None:
        super().__init__(is_number=not names)
        self._names = names

    def value(self, entry: LogEntry) -> bytes | None:
        call = entry.info.grpc
        if call is None or call.status == NO_STATUS:
            return None
        status = call.status
        return self._names[status] if 0 <= status < len(self._names) else b"%d" % status


class _StartTime(Operator):
    """With milliseconds. The rest is formatted once a second."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._prefix = ""

    def value(self, entry: LogEntry) -> bytes | None:
        start_ms = int(entry.info.wall_start_s * 1e6 + 0.5) // 1000
        second = start_ms // 1000
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self._prefix}{str(1000 + start_ms % 1000)[1:]}Z".encode()


class _Header(Operator):
    __slots__ = ("_name", "_of_response")

    def __init__(self, name: bytes, *, of_response: bool) -> None:
        super().__init__()
        self._name = name
        self._of_response = of_response

    def value(self, entry: LogEntry) -> bytes | None:
        wanted = self._name
        for field in entry.response_headers if self._of_response else entry.request_headers:
            if field[0] == wanted:
                return field[1]
        return None


class _PseudoHeader(Operator):
    __slots__ = ("_read",)

    def __init__(self, read: Callable[[LoggedRequest], bytes]) -> None:
        super().__init__()
        self._read = read

    def value(self, entry: LogEntry) -> bytes | None:
        request = entry.request
        return None if request is None else self._read(request) or None


class _First(Operator):
    """The first of some headers that the message has, or its first `limit_bytes`."""

    __slots__ = ("_headers", "_limit_bytes")

    def __init__(self, headers: list[Operator], limit_bytes: int | None) -> None:
        super().__init__()
        self._headers = headers
        self._limit_bytes = limit_bytes

    def value(self, entry: LogEntry) -> bytes | None:
        for header in self._headers:
            value = header.value(entry)
            if value is not None:
                return value if self._limit_bytes is None else value[: self._limit_bytes]
        return None


# None, not empty, for the path of CONNECT, and for parts that a malformed request lacks.
_PSEUDO_HEADERS: Final[Mapping[bytes, Callable[[LoggedRequest], bytes]]] = {
    b":method": lambda request: request.method,
    b":path": lambda request: request.path,
    b":authority": lambda request: request.authority,
    b"host": lambda request: request.authority,
    b":scheme": lambda request: request.scheme,
}

# As Envoy writes them.
_GRPC_SNAKE_NAMES: Final = tuple(status.name.encode() for status in GrpcStatus)
_GRPC_CAMEL_NAMES: Final = (
    b"OK", b"Canceled",
    *(status.name.title().replace("_", "").encode() for status in GrpcStatus if status >= 2),
)  # fmt: skip
_GRPC_NAMES: Final[Mapping[str | None, tuple[bytes, ...]]] = {
    None: _GRPC_CAMEL_NAMES,
    "CAMEL_STRING": _GRPC_CAMEL_NAMES,
    "SNAKE_STRING": _GRPC_SNAKE_NAMES,
    "NUMBER": (),
}

_NUMBERS: Final[Mapping[str, Callable[[StreamInfo], int]]] = {
    "RESPONSE_CODE": lambda info: info.status,
    "BYTES_RECEIVED": lambda info: info.bytes_received,
    "BYTES_SENT": lambda info: info.bytes_sent,
    "DURATION": lambda info: int((info.end_s - info.start_s) * 1000),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda info: info.attempts,
    "CONNECTION_ID": lambda info: info.connection.id,
}

_TEXTS: Final[Mapping[str, Callable[[StreamInfo], str]]] = {
    "PROTOCOL": lambda info: info.protocol,
    "RESPONSE_CODE_DETAILS": lambda info: info.details,
    "RESPONSE_FLAGS": lambda info: info.flags or "-",  # never empty, not even in JSON
    "ROUTE_NAME": lambda info: info.route_name,
    "VIRTUAL_CLUSTER_NAME": lambda info: "",
    "UPSTREAM_CLUSTER": lambda info: info.cluster,
    "UPSTREAM_CLUSTER_RAW": lambda info: info.cluster,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda info: info.upstream_failure,
    "UPSTREAM_PEER_URI_SAN": lambda info: info.upstream_peer_id,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda info: info.connection.remote_address.host,
    "DOWNSTREAM_PEER_URI_SAN": lambda info: info.connection.peer_id,
    "DOWNSTREAM_LOCAL_URI_SAN": lambda info: info.connection.local_id,
    "DOWNSTREAM_TLS_VERSION": lambda info: info.connection.tls_version,
    "REQUESTED_SERVER_NAME": lambda info: info.connection.server_name,
    "CONNECTION_TERMINATION_DETAILS": lambda info: "",  # of filters that are not supported
}

_ADDRESSES: Final[Mapping[str, Callable[[StreamInfo], SocketAddress | None]]] = {
    "UPSTREAM_HOST": lambda info: info.upstream_address,
    "UPSTREAM_LOCAL_ADDRESS": lambda info: info.upstream_local_address,
    "DOWNSTREAM_REMOTE_ADDRESS": lambda info: info.connection.remote_address,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda info: info.connection.direct_remote_address,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda info: info.connection.destination,
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
        headers = [_header(part.encode(), of_response=name == "RESP") for part in argument.lower().split("?")]
        return (
            headers[0]
            if len(headers) == 1 and not length
            else _First(headers, int(length) if length else None)
        )
    if name == "GRPC_STATUS" and argument in _GRPC_NAMES and not length:
        return _GrpcStatus(_GRPC_NAMES[argument])
    operator = None if argument else _plain(name)
    if operator is None:
        raise ConfigError(path, f"command operator %{name}% is not supported")
    if length:
        raise ConfigError(path, f"command operator %{name}% takes no length")
    return operator


def _header(name: bytes, *, of_response: bool) -> Operator:
    read = None if of_response else _PSEUDO_HEADERS.get(name)
    return _Header(name, of_response=of_response) if read is None else _PseudoHeader(read)


def _plain(name: str) -> Operator | None:
    """An operator without an argument."""
    if name == "START_TIME":
        return _StartTime()
    if name == "GRPC_STATUS_NUMBER":
        return _GrpcStatus(())
    if name in _NUMBERS:
        return _Number(_NUMBERS[name])
    if name in _TEXTS:
        return _Text(_TEXTS[name])
    return _Address(_ADDRESSES[name]) if name in _ADDRESSES else None
