"""An HTTP server on several addresses of loopback, all on one port, that answers with the address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Writes no log."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def address_server(*addresses: str) -> Iterator[int]:
    """Yields the port."""
    servers = _bound(addresses)
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield servers[0].server_address[1]
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _bound(addresses: tuple[str, ...]) -> list[_Server]:
    """The first takes any port; where another address has that one in use, another try."""
    while True:
        servers = [_Server((addresses[0], 0), _Handler)]
        try:
            for address in addresses[1:]:
                servers.append(_Server((address, servers[0].server_address[1]), _Handler))
        except OSError:
            for server in servers:
                server.server_close()
        else:
            return servers
