"""Distinguishes TLS, HTTP/1, HTTP/2 and other protocols by the first bytes of a connection. Pure.

Equivalent to Envoy's ``tls_inspector`` and ``http_inspector`` listener filters, whose terms it uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PEEK_BYTES: Final = 64 * 1024  # longer first lines and ClientHellos count as raw bytes

TLS: Final = "tls"
RAW_BUFFER: Final = "raw_buffer"
HTTP10: Final = "http/1.0"
HTTP11: Final = "http/1.1"
H2C: Final = "h2c"
HTTP_PROTOCOLS: Final = frozenset({HTTP10, HTTP11, H2C})


@dataclass(frozen=True, slots=True)
class Detection:
    """``application_protocols``: those that a ClientHello offers, or the detected HTTP version."""

    transport_protocol: str = RAW_BUFFER
    server_name: str = ""
    application_protocols: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The form for logs. Text that the client chose is quoted."""
        protocols = ", ".join(map(repr, self.application_protocols))
        text = "TLS" if self.transport_protocol == TLS else "plaintext"
        text += f" ({protocols})" if protocols else ""
        return f"{text} for {self.server_name!r}" if self.server_name else text


@dataclass(frozen=True, slots=True)
class NeedMore:
    """No decision is possible before ``size_bytes`` have arrived, counted from the start."""

    size_bytes: int


RAW: Final = Detection()

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 3.4
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_LONGEST_METHOD: Final = 32
_VERSIONS: Final = {b"HTTP/1.1": HTTP11, b"HTTP/1.0": HTTP10}

# RFC 8446 4.1.2, 5.1; RFC 6066 3; RFC 7301 3.1
_HANDSHAKE_RECORD: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_RECORD: Final = 16 * 1024
_HANDSHAKE_HEADER: Final = 4
_SERVER_NAME: Final = 0
_ALPN: Final = 16


class _NotTlsError(Exception):
    """The bytes cannot be the start of a ClientHello."""


def detect(data: bytes, *, tls: bool, http: bool) -> Detection | NeedMore:
    """``tls`` and ``http`` select what to look for. Never raises."""
    if not data:
        return NeedMore(1)
    verdict: Detection | NeedMore = RAW
    if tls:
        verdict = _detect_tls(data)
    if http and verdict is RAW:
        verdict = _detect_http(data)
    if isinstance(verdict, NeedMore) and verdict.size_bytes > MAX_PEEK_BYTES:
        return RAW
    return verdict


def _detect_http(data: bytes) -> Detection | NeedMore:
    if _PREFACE.startswith(data[: len(_PREFACE)]):
        enough = len(data) >= len(_PREFACE)
        return Detection(application_protocols=(H2C,)) if enough else NeedMore(len(data) + 1)
    method = data[: _LONGEST_METHOD + 1].partition(b" ")[0]
    if not method or len(method) > _LONGEST_METHOD or not _TOKEN.issuperset(method):
        return RAW
    end_of_line = data.find(b"\n")
    if end_of_line < 0:
        return NeedMore(len(data) + 1)
    parts = data[:end_of_line].rstrip(b"\r").split(b" ")
    version = _VERSIONS.get(parts[-1])
    return RAW if version is None or len(parts) != 3 else Detection(application_protocols=(version,))


def _detect_tls(data: bytes) -> Detection | NeedMore:
    try:
        hello = _client_hello(data)
        if isinstance(hello, NeedMore):
            return hello
        server_name, application_protocols = _parse_hello(hello)
    except _NotTlsError:
        return RAW
    return Detection(TLS, server_name, application_protocols)


def _client_hello(data: bytes) -> bytes | NeedMore:
    """The body of the ClientHello, joined from its records.

    The missing part needs at least one more record. Asking for all of it at once avoids a new attempt for
    each tiny record of a client.
    """
    handshake = bytearray()
    position = 0
    while True:
        header = data[position : position + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise _NotTlsError
        missing = _length(handshake) - len(handshake)
        if len(header) < 5:
            return NeedMore(position + 5 + missing)
        size = int.from_bytes(header[3:5], "big")
        if not 0 < size <= _MAX_RECORD:
            raise _NotTlsError
        start, position = position + 5, position + 5 + size
        handshake += data[start:position]
        if handshake and handshake[0] != _CLIENT_HELLO:
            raise _NotTlsError
        if len(data) < position:
            return NeedMore(position if size >= missing else position + 5 + missing - size)
        length = _length(handshake)
        if len(handshake) >= length:
            return bytes(handshake[_HANDSHAKE_HEADER:length])


def _length(handshake: bytearray) -> int:
    """The length of the whole message, or of its header while that is incomplete."""
    if len(handshake) < _HANDSHAKE_HEADER:
        return _HANDSHAKE_HEADER
    return _HANDSHAKE_HEADER + int.from_bytes(handshake[1:_HANDSHAKE_HEADER], "big")


class _Cursor:
    """Reads length-prefixed vectors (RFC 8446 3.4). Raises `_NotTlsError` past the end."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        taken = self._data[self._position : self._position + size]
        if len(taken) < size:
            raise _NotTlsError
        self._position += size
        return taken

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.integer(length_size))


def _parse_hello(hello: bytes) -> tuple[str, tuple[str, ...]]:
    """The server's name and the offered application protocols."""
    cursor = _Cursor(hello)
    cursor.take(2 + 32)  # legacy_version, random
    cursor.vector(1)  # legacy_session_id
    cursor.vector(2)  # cipher_suites
    cursor.vector(1)  # legacy_compression_methods
    server_name = ""
    application_protocols: tuple[str, ...] = ()
    extensions = _Cursor(cursor.vector(2)) if cursor else _Cursor(b"")
    while extensions:
        kind, body = extensions.integer(2), _Cursor(extensions.vector(2))
        if kind == _SERVER_NAME:
            server_name = _host_name(_Cursor(body.vector(2)))
        elif kind == _ALPN:
            application_protocols = _protocol_names(_Cursor(body.vector(2)))
    return server_name, application_protocols


def _host_name(names: _Cursor) -> str:
    while names:
        kind, name = names.integer(1), names.vector(2)
        if kind == 0:  # host_name, the only defined kind
            return name.decode("ascii", "replace").lower()
    return ""


def _protocol_names(names: _Cursor) -> tuple[str, ...]:
    found: list[str] = []
    while names:
        found.append(names.vector(1).decode("latin-1"))
    return tuple(found)
