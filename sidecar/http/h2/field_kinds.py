"""The kinds of fields in a header list (RFC 9113 8.2, 8.3), by which HPACK sorts them while it decodes."""

from __future__ import annotations

from typing import Final

ORDINARY: Final = 0
# The others are set apart.
PSEUDO: Final = 1
COOKIE: Final = 2
CONTENT_LENGTH: Final = 3
HOST: Final = 4
TE: Final = 5
EXPECT: Final = 6
FOR_ONE_HOP: Final = 7  # RFC 9113 8.2.2: the message is malformed
DROPPED: Final = 8  # for one hop too, and harmless
INVALID: Final = 9  # RFC 9113 8.2.1: a name or a value that is not allowed; the message is malformed

_KINDS: Final = {
    b":method": PSEUDO,
    b":scheme": PSEUDO,
    b":authority": PSEUDO,
    b":path": PSEUDO,
    b":status": PSEUDO,
    b":protocol": PSEUDO,
    b"cookie": COOKIE,
    b"content-length": CONTENT_LENGTH,
    b"host": HOST,
    b"te": TE,
    b"expect": EXPECT,
    b"connection": FOR_ONE_HOP,
    b"keep-alive": FOR_ONE_HOP,
    b"proxy-connection": FOR_ONE_HOP,
    b"transfer-encoding": FOR_ONE_HOP,
    b"upgrade": FOR_ONE_HOP,
    b"http2-settings": DROPPED,
}
# RFC 9110 5.6.2, without upper-case letters.
_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
# RFC 9110 5.5. As in Envoy, white space around a value is tolerated, although RFC 9113 8.2.1 forbids it.
_VALUE_BYTES: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))


def name_kind(name: bytes) -> int:
    """The kind of a field with this name, if its value is valid."""
    kind = _KINDS.get(name)
    if kind is not None:
        return kind
    return ORDINARY if name and not name.translate(None, _NAME_BYTES) else INVALID


def is_value(value: bytes) -> bool:
    return not value.translate(None, _VALUE_BYTES)


def field_kind(name: bytes, value: bytes) -> int:
    return name_kind(name) if is_value(value) else INVALID
