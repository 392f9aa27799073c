"""A gRPC server that says who it is, for calls of `tests.support.grpc_caller`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from tests.support.grpc_caller import METHOD


@contextmanager
def grpc_backend(version: str) -> Iterator[int]:
    """Serves on the port that it yields until the block ends; then it lets active calls finish."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return version.encode()

    service, method = METHOD.removeprefix("/").split("/")
    handler = grpc.method_handlers_generic_handler(
        service, {method: grpc.unary_unary_rpc_method_handler(answer)}
    )
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1).wait()
