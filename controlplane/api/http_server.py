"""An HTTP server inside the control plane's event loop: uvicorn without its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn

from controlplane.api.connections import Connection, ConnectionLimits, Connections
from controlplane.errors import SettingsError

# Responses are small. A client that still reads after this time is disconnected.
_SHUTDOWN_TIMEOUT_S: Final = 2
# Go's clients, such as an API server, close an idle connection after 90 s. Closing it earlier could meet a
# request on its way, which Go does not send again.
_KEEP_ALIVE_S: Final = 120
_LIMITS: Final = ConnectionLimits()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Installs no handlers: the runtime handles signals for all of its servers."""
        yield


class HttpServer:
    """Binds its port when it is created, so that a port in use is reported before anything else starts, and
    serves after `start`."""

    def __init__(
        self,
        name: str,
        app: Any,
        address: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        limits: ConnectionLimits = _LIMITS,
    ) -> None:
        """``app`` is an ASGI application. Without ``tls`` it serves plaintext. Raises `SettingsError` when it
        cannot listen on ``address`` and ``port``."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http=partial(Connection, connections_of_server=Connections(limits)),  # type: ignore[arg-type]
            # Or else a header could say that a client is on this machine.
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
        )
        config.load()
        config.ssl = tls
        self.name: Final = name
        self._socket: Final = bind(name, address, port)
        self._server: Final = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        number: int = self._socket.getsockname()[1]
        return number

    def start(self) -> None:
        # Connections that arrive before uvicorn accepts them wait in the backlog.
        self._socket.listen()
        self._task = asyncio.create_task(self._server.serve([self._socket]), name=f"http-{self.name}")

    async def close(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def bind(name: str, address: str, port: int) -> socket.socket:
    """Returns a bound TCP socket. ``name`` identifies the server in the error text.

    Raises `SettingsError` with the operating system's error text.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {address}:{port} for {name}: {error.strerror}") from error
    return listener
