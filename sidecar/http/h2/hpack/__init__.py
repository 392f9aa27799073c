"""HPACK, the compression of header lists in HTTP/2 (RFC 7541)."""
