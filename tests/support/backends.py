"""Small applications that answer with their name, and with the request that their proxy passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Backend(ThreadingHTTPServer):
    """``requests`` counts its requests."""

    # Connections that a proxy keeps open do not keep a test from ending.
    daemon_threads = True
    block_on_close = False

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.version = version
        self.requests = 0


class _Handler(BaseHTTPRequestHandler):
    """Answers with JSON: the backend's ``version``, the request's ``path``, ``body`` and ``headers``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Backend

    def do_GET(self) -> None:
        self.server.requests += 1
        request = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = {
            "version": self.server.version,
            "path": self.path,
            "body": request.decode(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def backend(version: str) -> Iterator[Backend]:
    """Serves on ``server_port`` until the block ends."""
    with Backend(version) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), name=f"backend-{version}")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
