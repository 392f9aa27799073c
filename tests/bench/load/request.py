"""The request of the HTTP cases: a browser's, as it arrives in a mesh. Twelve headers with Host."""

from __future__ import annotations

HEADERS = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept": "application/json, text/plain, */*",
    "accept-encoding": "gzip, deflate, br",
    "accept-language": "en-US,en;q=0.9",
    "authorization": "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IkRIRmJwb0lVcXJZOHQyenBBMnFYZkNtcjVWTzVaRXI0In0",
    "cookie": "session=abc123; canary=false; theme=dark",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
    "cache-control": "no-cache",
    "x-user-id": "42",
    "referer": "http://frontend/productpage",
}
PATH = "/api/v1/items?page=2"


def encoded(path: str = PATH, *, host: str = "frontend", close: bool = False) -> bytes:
    """A GET request without a body."""
    headers = {"host": host, **HEADERS} | ({"connection": "close"} if close else {})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
