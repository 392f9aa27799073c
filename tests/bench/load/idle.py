"""Keep-alive connections that are idle after one request each, for as long as the standard input is open.

python -m tests.bench.load.idle PORT COUNT      prints `ready` when all are idle
"""

from __future__ import annotations

import resource
import socket
import sys

from tests.bench.load.request import encoded


def main(port: int, count: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    request = encoded()
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), 10)
        connection.sendall(request)
        answer = b""
        while not answer.endswith(b"x" * 512):
            part = connection.recv(16384)
            if not part:
                raise RuntimeError(f"a connection ended after {answer!r}")
            answer += part
        connections.append(connection)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
