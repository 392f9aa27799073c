"""TLS of a gRPC client."""

from __future__ import annotations

import ssl

from sidecar.errors import IdentityError


def verifying_context(roots: bytes, source: str) -> ssl.SSLContext:
    """Verifies the server against these roots, PEM, and its name. ``source`` is named in the `IdentityError`
    for invalid roots."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a root may be an intermediate
    try:
        context.load_verify_locations(cadata=roots.decode())
    except (ssl.SSLError, ValueError) as error:
        raise IdentityError(f"invalid roots in {source}: {error}") from error
    return over_http2(context)


def over_http2(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, which then offers only HTTP/2."""
    context.set_alpn_protocols(["h2"])
    return context
