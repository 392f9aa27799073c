"""An HTTP/1.1 upstream in threads that holds its answers back until the test releases them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.processes import DEADLINE_S


class HoldingUpstream(ThreadingHTTPServer):
    """Holds each request whose path ends with ``/hold``. If it ends with ``/again``, it answers the first
    request with this ``x-id`` with a 503, and holds the second one. It answers all others with 200."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._holds = threading.Event()
        self._released = threading.Event()
        self._failed: set[str | None] = set()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def wait_until_it_holds(self) -> None:
        assert self._holds.wait(DEADLINE_S), "no request arrived"

    def release(self) -> None:
        self._released.set()

    def status_for(self, path: str, request_id: str | None) -> int:
        """Returns when the request is to be answered."""
        if path.endswith("/again") and request_id not in self._failed:
            self._failed.add(request_id)
            return 503
        if path.endswith(("/hold", "/again")):
            self._holds.set()
            self._released.wait(DEADLINE_S)
        return 200


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HoldingUpstream

    def do_GET(self) -> None:
        self.send_response(self.server.status_for(self.path, self.headers["x-id"]))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def holding_upstream() -> Iterator[HoldingUpstream]:
    upstream = HoldingUpstream()
    thread = threading.Thread(target=upstream.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        upstream.release()
        upstream.shutdown()
        thread.join()
        upstream.server_close()
