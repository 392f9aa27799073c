"""Header lists, and the fields in them that are for one hop only.

Names are lower-case bytes. Codecs remove hop-by-hop fields from the messages that they read, and add them to
those that they write.
"""

from __future__ import annotations

Headers = list[tuple[bytes, bytes]]

# RFC 9110 7.6.1: for the next hop only. `trailer` is kept, because trailers are passed on; `te: trailers` is
# kept, because gRPC requires it.
HOP_BY_HOP = frozenset(
    (b"connection", b"http2-settings", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)

# RFC 9112 6: only a codec writes these. They frame the message, and neither a configuration nor a
# filter can change them.
CODEC_FIELDS = HOP_BY_HOP | {b"content-length", b"te", b"trailer"}


# The connection manager verifies these in the head of a request; a trailer must not bypass it.
MANAGED_PREFIXES = (b"x-envoy-", b"x-forwarded-")


def get_header(headers: Headers, name: bytes) -> bytes | None:
    """The first value of a lower-case name."""
    for header, value in headers:
        if header == name:
            return value
    return None
