"""The Bookinfo services. Each is a small HTTP server that does not know about the mesh.

    python app.py productpage --version v1 --port 9080

productpage calls details and reviews; reviews v2 and v3 call ratings. They use plain names and ports
(``http://reviews:9080/...``). The sidecar intercepts the calls, or the standard HTTP_PROXY variable directs
them to it. Each answer contains the pod's name and the address of its client. The code uses the standard
library only, unless ``--grpc`` makes reviews call ratings over gRPC, and ratings serve it (`grpc_ratings`).
``POST /fault?status=500`` makes a replica answer all requests with 500; ``status=200`` restores it. On
SIGTERM a service answers the requests that it has, and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# The headers that a service forwards, so that traces and routes by user work across all hops.
FORWARDED = (
    "x-request-id", "traceparent", "tracestate", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid",
    "x-b3-sampled", "x-b3-flags", "b3", "end-user", "user-agent",
)  # fmt: skip
CALL_TIMEOUT_S = 10
STARS_COLOUR = {"v2": "black", "v3": "red"}

Answer = dict[str, object]


def passed_on(headers: HTTPMessage) -> dict[str, str]:
    return {name: headers[name] for name in FORWARDED if headers[name]}


def call(url: str, headers: HTTPMessage) -> Answer:
    """Calls another service. Raises an exception for an HTTP error status."""
    request = urllib.request.Request(url, headers=passed_on(headers))
    with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as response:
        answer: Answer = json.load(response)
        return answer


def productpage(version: str, path: str, headers: HTTPMessage) -> Answer:
    with ThreadPoolExecutor(1) as pool:
        details = pool.submit(call, "http://details:9080/details/0", headers)
        reviews = call("http://reviews:9080/reviews/0", headers)
        return {"details": details.result(), "reviews": reviews}


def details(version: str, path: str, headers: HTTPMessage) -> Answer:
    return {"id": 0, "author": "William Shakespeare", "year": 1595, "pages": 200, "language": "English"}


def reviews(version: str, path: str, headers: HTTPMessage) -> Answer:
    answer: Answer = {
        "version": version,
        "reviews": ["An extremely entertaining play by Shakespeare.", "Absolutely fun and entertaining."],
    }
    if version in STARS_COLOUR:
        answer["colour"] = STARS_COLOUR[version]
        answer["ratings"] = CALLS["ratings"](headers)
    return answer


def call_ratings_over_http(headers: HTTPMessage) -> Answer:
    return call("http://ratings:9080/ratings/0", headers)


def ratings(version: str, path: str, headers: HTTPMessage) -> Answer:
    return {"Reviewer1": 5, "Reviewer2": 4}


class Requests:
    """Counts those in progress: ``with`` it, each is one."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_end(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)


IN_PROGRESS = Requests()

# How reviews calls ratings: over HTTP, or over gRPC.
CALLS: dict[str, Callable[[HTTPMessage], Answer]] = {"ratings": call_ratings_over_http}

SERVICES: dict[str, Callable[[str, str, HTTPMessage], Answer]] = {
    "productpage": productpage,
    "details": details,
    "reviews": reviews,
    "ratings": ratings,
}


def handler(service: str, version: str) -> type[BaseHTTPRequestHandler]:
    answer = SERVICES[service]
    pod = os.environ.get("POD_NAME", f"{service}-{version}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        fault = 0
        disable_nagle_algorithm = True
        wbufsize = -1  # send the head and the body together

        def do_GET(self) -> None:
            with IN_PROGRESS:
                self.reply_to_get()

        def reply_to_get(self) -> None:
            if Handler.fault:
                self.reply(Handler.fault, {"error": f"{pod} is set to answer {Handler.fault}"})
                return
            try:
                client = self.client_address[0]
                self.reply(200, {"pod": pod, "client": client, **answer(version, self.path, self.headers)})
            except OSError as error:  # urllib's errors are OSErrors
                self.reply(502, {"error": f"{pod}: {error}"})

        def do_POST(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            status = int(query.get("status", ["500"])[0])
            Handler.fault = 0 if status == 200 else status
            self.reply(200, {"pod": pod, "fault": Handler.fault})

        def reply(self, status: int, body: Answer) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing: the sidecars write access logs."""

    return Handler


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # the standard library's 5 loses connections under load
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser(description="One of the Bookinfo services.")
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("--version", default="v1")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9080)
    parser.add_argument("--grpc", action="store_true", help="ratings is a gRPC service; needs grpcio")
    parser.add_argument(
        "--unavailable-every", type=int, default=0, help="gRPC: each Nth call of ratings fails"
    )
    arguments = parser.parse_args()
    if arguments.grpc and arguments.service == "ratings":
        serve_ratings_over_grpc(arguments)
        return
    if arguments.grpc and arguments.service == "reviews":
        call_ratings_over_grpc()
    server = Server((arguments.host, arguments.port), handler(arguments.service, arguments.version))
    # `shutdown` waits for the end of `serve_forever`, which this thread runs.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown, daemon=True).start())
    server.serve_forever()
    IN_PROGRESS.wait_for_end()


def serve_ratings_over_grpc(arguments: argparse.Namespace) -> None:
    from grpc_ratings import Server as GrpcServer

    pod = os.environ.get("POD_NAME", f"ratings-{arguments.version}")
    server = GrpcServer(arguments.host, arguments.port, pod, unavailable_every=arguments.unavailable_every)
    server.serve(lambda stop: signal.signal(signal.SIGTERM, lambda *_: stop()))


def call_ratings_over_grpc() -> None:
    from grpc_ratings import Client

    client = Client()
    CALLS["ratings"] = lambda headers: client.get(passed_on(headers))


if __name__ == "__main__":
    main()
