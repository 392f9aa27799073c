"""One HTTP request to a proxy of this pod, for the programs that Kubernetes runs as hooks.

It imports a socket only: the pod's start or end waits for a hook.
"""

from __future__ import annotations

import socket


class NoAnswerError(Exception):
    """The message tells the port and the reason."""


class ClosedPortError(NoAnswerError):
    """The port is closed, or was closed while the proxy was asked."""


def request(method: str, port: int, path: str, *, timeout_s: float) -> int:
    """The status. Raises `NoAnswerError`, and `ClosedPortError` where the proxy does not run."""
    host = f"host: 127.0.0.1:{port}"
    head = "\r\n".join((f"{method} {path} HTTP/1.1", host, "content-length: 0", "connection: close", "", ""))
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(head.encode())
            with connection.makefile("rb") as answer:
                line = answer.readline(1024)
    except OSError as error:
        kind = ClosedPortError if isinstance(error, ConnectionError) else NoAnswerError
        raise kind(f"port {port} on loopback: {error.strerror or error}") from error
    fields = line.split(maxsplit=2)
    if len(fields) < 2 or not fields[0].startswith(b"HTTP/") or not fields[1].isdigit():
        raise NoAnswerError(f"port {port} on loopback: the answer is not HTTP")
    return int(fields[1])


def flags(arguments: list[str], known: dict[str, float], usage: str) -> dict[str, float]:
    """``--name NUMBER`` or ``--name=NUMBER`` for the names in ``known``, whose values are the defaults. Exits
    with ``usage`` for anything else."""
    values = dict(known)
    pending = [part for argument in arguments for part in argument.split("=", 1)]
    if len(pending) % 2:
        raise SystemExit(usage)
    for name, text in zip(pending[::2], pending[1::2], strict=True):
        number = text.removesuffix("s")
        if name not in known or not number.replace(".", "", 1).isdecimal():
            raise SystemExit(usage)
        values[name] = float(number)
    return values
