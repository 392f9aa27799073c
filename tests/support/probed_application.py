"""An application with endpoints for probes and metrics, which records how it was asked."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from threading import Event, Thread

import grpc
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

ENDLESS_PIECE = b"x" * 16384


@dataclass(frozen=True, slots=True)
class ReceivedProbe:
    path: str
    source: str
    headers: dict[str, str]


class ProbedApplication(ThreadingHTTPServer):
    """``/status/418`` answers with that status, ``/to?URL`` redirects, ``/loop`` to itself, ``/hang`` answers
    when `release` is set, and ``/endless`` never ends. Any other path is one of `pages`: content type and
    content, which is cut short after `sent_bytes`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.received: list[ReceivedProbe] = []
        self.release = Event()
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.sent_bytes: int | None = None

    def server_bind(self) -> None:
        """Without a look-up of the machine's name, which a network namespace cannot answer."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "application", self.socket.getsockname()[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ProbedApplication

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(ReceivedProbe(self.path, self.client_address[0], headers))
        path, _, query = self.path.partition("?")
        if path.startswith("/status/"):
            self._answer(int(path.removeprefix("/status/")), "text/plain", b"from the application")
        elif path in ("/to", "/loop"):
            self.send_response(302)
            self.send_header("location", query or path)
            self.send_header("content-length", "0")
            self.end_headers()
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(ENDLESS_PIECE)
        elif path == "/hang":
            self.server.release.wait(30)
            self._answer(200, "text/plain", b"")
        else:
            self._answer(200, *self.server.pages[path])

    def _answer(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.sent_bytes])
        self.close_connection = self.server.sent_bytes is not None

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the probe has ended


@contextmanager
def probed_application(
    host: str = "0.0.0.0", *, port: int = 0, certificate_in: Path | None = None
) -> Iterator[ProbedApplication]:
    """Serves until the block ends. ``certificate_in``: with HTTPS; the folder for a certificate, which is for
    another name."""
    with ProbedApplication(host, port) as server:
        if certificate_in is not None:
            server.socket = _tls(certificate_in).wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,), name="probed-application")
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join()


def _tls(folder: Path) -> ssl.SSLContext:
    pem = folder / "server.pem"
    trustme.CA().issue_cert("elsewhere.example").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@contextmanager
def grpc_health_server(host: str = "0.0.0.0") -> Iterator[int]:
    """gRPC's own server of health checks. The empty service and ``up`` are serving, ``down`` is not."""
    serving = health_pb2.HealthCheckResponse.ServingStatus
    servicer = health.HealthServicer()
    servicer.set("up", serving.SERVING)
    servicer.set("down", serving.NOT_SERVING)
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"[{host}]:0" if ":" in host else f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
