"""Keeps tracebacks of broken connections out of the log: a peer causes them, not this process."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

_LOG = logging.getLogger(__name__)


def quiet_peer_faults(loop: asyncio.AbstractEventLoop) -> None:
    """Logs network and TLS errors that the event loop reports at debug level, and other errors as before."""
    loop.set_exception_handler(_handle)


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    about_a_connection = "transport" in context or "protocol" in context
    if about_a_connection and isinstance(error, OSError):  # ssl.SSLError is one too
        _LOG.debug("a peer's connection: %s: %s", context.get("message"), error)
    else:
        loop.default_exception_handler(context)
