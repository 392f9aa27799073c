"""Keeps a server's TLS sessions in its memory, a bounded number of them, instead of in its clients' tickets.

A ticket holds the client's certificate (RFC 8446 4.6.1 leaves its content to the server). OpenSSL parses it
again for each ticket that it makes or accepts, which is two thirds of the cost of a resumed handshake. A
session in memory has it parsed; the ticket is only its number (``SSL_OP_NO_TICKET`` in TLS 1.3).

`ssl` can switch to that, but cannot bound it: 20480 sessions of 10 KiB are OpenSSL's default. So the bound is
set by OpenSSL's own function. Where that cannot be called safely, tickets hold the sessions as before.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from typing import Final

# OpenSSL evicts the oldest. A full handshake leaves a session of 10 KiB, a resumed one another of 1.4 KiB.
MAX_SESSIONS: Final = 2048

# The object of `ssl.SSLContext` begins with its `SSL_CTX *` (Modules/_ssl.c). Add a version of CPython when
# the tests of this module pass in it.
_KNOWN_LAYOUT: Final = sys.implementation.name == "cpython" and sys.version_info[:2] in {
    (3, 11),
    (3, 12),
    (3, 13),
}
# openssl/ssl.h
_SET_CACHE_SIZE: Final = 42
_GET_CACHE_SIZE: Final = 43


def keep_sessions_in_memory(context: ssl.SSLContext, max_sessions: int = MAX_SESSIONS) -> bool:
    """Returns False, and changes nothing, where it is not possible."""
    control = _find_control()
    if control is None:
        return False
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    control(pointer, _SET_CACHE_SIZE, max_sessions, None)
    if control(pointer, _GET_CACHE_SIZE, 0, None) != max_sessions:
        return False
    context.options |= ssl.OP_NO_TICKET
    return True


def _find_control() -> ctypes._NamedFuncPointer | None:
    """``SSL_CTX_ctrl`` of the library that `ssl` uses; None if that is part of the interpreter's program, or
    is not OpenSSL."""
    import _ssl  # noqa: PLC0415

    file = getattr(_ssl, "__file__", None)
    if not _KNOWN_LAYOUT or file is None:
        return None
    control = getattr(ctypes.CDLL(file), "SSL_CTX_ctrl", None)
    if control is not None:
        control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        control.restype = ctypes.c_long
    return control
