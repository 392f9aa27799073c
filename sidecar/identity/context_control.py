"""Settings of a TLS context that OpenSSL has and `ssl` does not offer.

OpenSSL's own functions set them. Where those cannot be called safely, the settings keep OpenSSL's defaults:
each saves work, and none is needed for a check.
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
_AES_128: Final = "TLS_AES_128_GCM_SHA256"


def control(context: ssl.SSLContext, command: int, argument: int) -> int | None:
    """The result of ``SSL_CTX_ctrl``; None where it cannot be called."""
    function = _find_function("SSL_CTX_ctrl", ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    return None if function is None else int(function(_pointer(context), command, argument, None))


def send_configured_chain_only(context: ssl.SSLContext) -> bool:
    """Sends the certificates of `load_cert_chain`, as Envoy does. By default, OpenSSL completes a chain of
    one certificate with those that it trusts: for that it verifies its own certificate in each full
    handshake, and the peer has to parse a root that it knows. Returns False where it is not possible."""
    mode = control(context, _CONTROL_MODE, _NO_AUTO_CHAIN)
    return mode is not None and bool(mode & _NO_AUTO_CHAIN)


def prefer_aes_128(context: ssl.SSLContext) -> bool:
    """In TLS 1.3, AES-128-GCM comes first, as Envoy's client offers it: it is as strong as the key exchange,
    and a handshake costs 13 us less with its SHA-256 than with the SHA-384 of AES-256-GCM. The other cipher
    suites follow in their order. Returns False where it is not possible."""
    suites = [each["name"] for each in context.get_ciphers() if each["protocol"] == "TLSv1.3"]
    function = _find_function("SSL_CTX_set_ciphersuites", ctypes.c_int, ctypes.c_char_p)
    if function is None or _AES_128 not in suites:
        return False
    suites.sort(key=lambda name: name != _AES_128)
    return bool(function(_pointer(context), ":".join(suites).encode()))


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


def _find_function(
    name: str, result_type: type[ctypes.c_int | ctypes.c_long], *argument_types: type
) -> ctypes._NamedFuncPointer | None:
    """A function of the library that `ssl` uses; None if that is part of the interpreter's program, or is not
    OpenSSL."""
    import _ssl  # noqa: PLC0415

    file = getattr(_ssl, "__file__", None)
    if not _KNOWN_LAYOUT or file is None:
        return None
    function = getattr(ctypes.CDLL(file), name, None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, *argument_types]
        function.restype = result_type
    return function
