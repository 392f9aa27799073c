"""Ratings over gRPC: the server of ratings, and the client in reviews (``app.py --grpc``).

The client sends plaintext HTTP/2 to ``ratings:9080``. The sidecar intercepts it, or the client sends it to
the sidecar's address in the standard HTTP_PROXY variable, with ``ratings:9080`` as its authority. The
sidecars encrypt the connection and route each call.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import grpc
from ratings_pb2 import RatingsAnswer, RatingsRequest

SERVICE = "bookinfo.v1.Ratings"
HOST = "ratings:9080"
CALL_TIMEOUT_S = 10
STOP_GRACE_S = 10
STARS = {"Reviewer1": 5, "Reviewer2": 4}
THREADS = 16

Answer = dict[str, object]


class UnavailableError(OSError):
    """A call of ratings failed. The message has the status."""


class Client:
    """Calls ratings. One channel for all calls: HTTP/2 carries them at once."""

    def __init__(self) -> None:
        proxy = urlsplit(os.environ.get("HTTP_PROXY", "")).netloc
        # gRPC would open a CONNECT tunnel through the proxy, in which the sidecar sees no calls.
        options = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", HOST)]
        self._get = grpc.insecure_channel(proxy or HOST, options).unary_unary(
            f"/{SERVICE}/Get",
            request_serializer=RatingsRequest.SerializeToString,
            response_deserializer=RatingsAnswer.FromString,
        )

    def get(self, headers: Mapping[str, str]) -> Answer:
        """Returns the same as ratings over HTTP. The call's metadata are `headers`. Raises
        `UnavailableError`."""
        metadata = [(name.lower(), value) for name, value in headers.items() if name.lower() != "user-agent"]
        try:
            answer = self._get(RatingsRequest(product_id=0), timeout=CALL_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            raise UnavailableError(
                f"ratings are not available: {error.code().name}: {error.details()}"
            ) from error
        return {"pod": answer.pod, "client": answer.client, **answer.stars}


class Server:
    """Serves ratings. Every `unavailable_every`-th call gets the status UNAVAILABLE; with 0, no call does."""

    def __init__(self, host: str, port: int, pod: str, *, unavailable_every: int = 0) -> None:
        self._pod = pod
        self._unavailable_every = unavailable_every
        self._calls = itertools.count(1)
        self._stop = threading.Event()
        get = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=RatingsRequest.FromString,
            response_serializer=RatingsAnswer.SerializeToString,
        )
        self._server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Get": get}),))
        self._server.add_insecure_port(f"{host}:{port}")

    def serve(self, on_stop: Callable[[Callable[[], None]], object]) -> None:
        """Serves until the function that it gives to `on_stop` is called, and then finishes active calls."""
        on_stop(self._stop.set)
        self._server.start()
        self._stop.wait()
        self._server.stop(STOP_GRACE_S).wait()

    def _answer(self, request: RatingsRequest, context: grpc.ServicerContext) -> RatingsAnswer:
        if self._unavailable_every and next(self._calls) % self._unavailable_every == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{self._pod} is set to be unavailable sometimes")
        return RatingsAnswer(pod=self._pod, client=_address(context.peer()), stars=STARS)


def _address(peer: str) -> str:
    """Returns the address of gRPC's name of a peer, such as ``ipv4:127.0.0.1:51146``."""
    return peer.partition(":")[2].rpartition(":")[0]
