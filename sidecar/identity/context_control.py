"""Settings of a TLS context that OpenSSL has and `ssl` does not offer.

OpenSSL's own function sets them. Where that cannot be called safely, they keep OpenSSL's defaults: each of them
saves work, and none is needed for a check.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from typing import Final

# The object of `ssl.SSLContext` begins with its `SSL_CTX *` (Modules/_ssl.c). Add a version of CPython when
# the tests of this package pass in it.
_KNOWN_LAYOUT: Final = sys.implementation.name == "cpython" and sys.version_info[:2] in {
    (3, 11),
    (3, 12),
    (3, 13),
}
# openssl/ssl.h
_CONTROL_MODE: Final = 33
_NO_AUTO_CHAIN: Final = 8


def control(context: ssl.SSLContext, command: int, argument: int) -> int | None:
    """The result of ``SSL_CTX_ctrl``; None where it cannot be called."""
    function = _find_function()
    if function is None:
        return None
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return int(function(pointer, command, argument, None))


def send_configured_chain_only(context: ssl.SSLContext) -> bool:
    """Sends the certificates of `load_cert_chain`, as Envoy does. By default, OpenSSL completes a chain of one
    certificate with those that it trusts: it verifies its own certificate in each full handshake for that, and
    the peer has to parse a root that it knows. Returns False where it is not possible."""
    mode = control(context, _CONTROL_MODE, _NO_AUTO_CHAIN)
    return mode is not None and bool(mode & _NO_AUTO_CHAIN)


def _find_function() -> ctypes._NamedFuncPointer | None:
    """``SSL_CTX_ctrl`` of the library that `ssl` uses; None if that is part of the interpreter's program, or
    is not OpenSSL."""
    import _ssl  # noqa: PLC0415

    file = getattr(_ssl, "__file__", None)
    if not _KNOWN_LAYOUT or file is None:
        return None
    function = getattr(ctypes.CDLL(file), "SSL_CTX_ctrl", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        function.restype = ctypes.c_long
    return function
