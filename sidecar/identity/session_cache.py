"""Keeps a server's TLS sessions in its memory, a bounded number of them, instead of in its clients' tickets.

A ticket holds the client's certificate (RFC 8446 4.6.1 leaves its content to the server). OpenSSL parses it
again for each ticket that it makes or accepts, which is two thirds of the cost of a resumed handshake. A
session in memory has it parsed; the ticket is only its number (``SSL_OP_NO_TICKET`` in TLS 1.3).

`ssl` can switch to that, but cannot bound it: 20480 sessions of 10 KiB are OpenSSL's default. Where no bound
can be set, tickets hold the sessions.
"""

from __future__ import annotations

import ssl
from typing import Final

from sidecar.identity.context_control import control

# OpenSSL evicts the oldest. A full handshake leaves a session of 10 KiB, a resumed one another of 1.4 KiB.
MAX_SESSIONS: Final = 2048

# openssl/ssl.h
_SET_CACHE_SIZE: Final = 42
_GET_CACHE_SIZE: Final = 43


def keep_sessions_in_memory(context: ssl.SSLContext, max_sessions: int = MAX_SESSIONS) -> bool:
    """Returns False, and changes nothing, where it is not possible."""
    control(context, _SET_CACHE_SIZE, max_sessions)
    if control(context, _GET_CACHE_SIZE, 0) != max_sessions:
        return False
    context.options |= ssl.OP_NO_TICKET
    return True
