"""A host that connections cannot be made to, and that does not say so: attempts run into their timeout."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def vanishing_host(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Its port: SYNs get no answer, since its accept queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((address, port))
        listening.listen(0)  # room for one
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
