"""HTTP/2 (RFC 9113): a codec without I/O, and the two sides of a connection that use it."""
