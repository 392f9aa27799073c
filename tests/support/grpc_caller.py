"""A program that calls a gRPC target for ever, and prints a line for each call: the answer, or the failure.

Run as a file, in a separate process: gRPC reads GRPC_XDS_BOOTSTRAP_CONFIG once.
"""

from __future__ import annotations

import sys
import time

import grpc

METHOD = "/test.Version/Get"
_PAUSE_S = 0.001
_DEADLINE_S = 10.0


def main(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(METHOD)
        while True:
            try:
                # No host is known until the first configuration has arrived.
                answer = call(b"", timeout=_DEADLINE_S, wait_for_ready=True).decode()
            except grpc.RpcError as error:
                answer = f"{error.code().name}: {error.details()}"
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
