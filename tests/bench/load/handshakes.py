"""New connections with mutual TLS 1.3, one request each, from a few threads that wait for each answer.

python -m tests.bench.load.handshakes PARAMETERS      prints a `Load`; see `Parameters`

Threads with blocking sockets, because asyncio cannot resume a session.
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, replace

from sidecar.identity.context_control import send_configured_chain_only
from tests.bench.load.latencies import load_of
from tests.bench.load.request import encoded

_REQUEST = encoded(close=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`resume`: each thread resumes the session of its last full handshake."""

    port: int
    seconds: float
    threads: int
    certificate: str
    key: str
    trusted_ca: str
    resume: bool


class Connections:
    """Those of one thread."""

    def __init__(self, parameters: Parameters) -> None:
        self.latencies_s: list[float] = []
        self.resumed = 0
        self.error: Exception | None = None
        self._parameters = parameters
        self._session: ssl.SSLSession | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.check_hostname = False  # the peer has a SPIFFE id
        self._context.load_verify_locations(parameters.trusted_ca)
        self._context.load_cert_chain(parameters.certificate, parameters.key)
        send_configured_chain_only(self._context)  # as the clients of a mesh do, Envoy and the sidecar

    def run(self) -> None:
        end_s = time.perf_counter() + self._parameters.seconds
        try:
            while time.perf_counter() < end_s:
                self._connect()
        except Exception as error:  # reported by the main thread
            self.error = error

    def _connect(self) -> None:
        start_s = time.perf_counter()
        with (
            socket.create_connection(("127.0.0.1", self._parameters.port), 10) as plain,
            self._context.wrap_socket(plain, session=self._session) as connection,
        ):
            # The request follows the end of the handshake, and must not wait for its acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(_REQUEST)
            answer = connection.recv(16384)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answered {answer[:100]!r}")
            self.latencies_s.append(time.perf_counter() - start_s)
            self.resumed += bool(connection.session_reused)
            while connection.recv(16384):
                pass
            if self._parameters.resume and not connection.session_reused:
                self._session = connection.session  # the tickets came with the answer


def main(parameters: Parameters) -> None:
    every = [Connections(parameters) for _ in range(parameters.threads)]
    threads = [threading.Thread(target=one.run) for one in every]
    start_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start_s
    for one in every:
        if one.error is not None:
            raise one.error
    load = load_of([latency_s for one in every for latency_s in one.latencies_s], seconds)
    print(replace(load, resumed=sum(one.resumed for one in every)).to_json())


if __name__ == "__main__":
    main(Parameters(**json.loads(sys.argv[1])))
