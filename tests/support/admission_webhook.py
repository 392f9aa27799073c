"""An admission webhook: a small HTTPS server that the API server calls, answering as a test tells it to."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

Review = dict[str, Any]
"""The `request` or the `response` of an `admission.k8s.io/v1` AdmissionReview."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionWebhook:
    port: int
    ca_pem: bytes
    requests: list[Review] = field(default_factory=list)

    @property
    def client_config(self) -> dict[str, str]:
        """The `clientConfig` of a webhook's registration."""
        bundle = base64.b64encode(self.ca_pem).decode()
        return {"url": f"https://127.0.0.1:{self.port}/", "caBundle": bundle}


@contextmanager
def admission_webhook(answer: Callable[[Review], Review]) -> Iterator[AdmissionWebhook]:
    """Serves until the block ends; `answer` gets each request and returns the response, without its uid."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    requests: list[Review] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            requests.append(review["request"])
            review["response"] = {**answer(review.pop("request")), "uid": requests[-1]["uid"]}
            body = json.dumps(review).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Writes no access log to the output of the test."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="admission-webhook")
    thread.start()
    try:
        pem = authority.cert_pem.bytes()
        yield AdmissionWebhook(port=server.server_port, ca_pem=pem, requests=requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
