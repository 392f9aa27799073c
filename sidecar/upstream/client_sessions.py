"""The TLS sessions that connections to hosts resume (RFC 8446 2.2). A handshake that parses and verifies no
certificate costs less than half.

A session proves that the host still has the ticket key of a connection whose certificate was verified. It is
bound to its context, and so to the roots and to the own certificate: a rotation ends it. It is not offered
after its certificate has expired. The names in the certificate are verified for each connection.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Final

from sidecar.config.endpoint import SocketAddress

_MAX_HOSTS: Final = 64  # a session holds its certificate: some kilobytes
_MAX_AGE_S: Final = 3600.0
# Copying a session out of OpenSSL costs as much as resuming it saves. A host whose sessions cannot be
# resumed, such as several servers behind one address, must not cause a copy for each connection. A host that
# has resumed the session so often has dropped it since, for others or for a rotation.
_REPLACE_AFTER_S: Final = 10.0
_REPLACE_AFTER_RESUMPTIONS: Final = 8

Key = tuple[SocketAddress, str]
"""A host and the SNI."""


class _Saved:
    __slots__ = ("context", "expires_s", "resumptions", "saved_s", "session")

    def __init__(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None, saved_s: float, expires_s: float
    ) -> None:
        self.context = context
        self.session = session  # None if the host gives no tickets
        self.saved_s = saved_s
        self.expires_s = expires_s
        self.resumptions = 0


class ClientSessions:
    """The latest session of each host of one cluster; many connections resume the same one."""

    __slots__ = ("_now_s", "_saved")

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        """``now_s``: the seconds since the epoch."""
        self._now_s = now_s
        self._saved: dict[Key, _Saved] = {}

    def of(self, key: Key, context: ssl.SSLContext) -> ssl.SSLSession | None:
        saved = self._saved.get(key)
        if saved is None or saved.context is not context or saved.expires_s <= self._now_s():
            return None
        return saved.session

    def wants(self, key: Key, context: ssl.SSLContext, *, reused: bool) -> bool:
        """Whether the session of a connection whose handshake is done should be saved. Called once for each.
        ``reused``: it was resumed itself."""
        saved = self._saved.get(key)
        if saved is None or saved.context is not context:
            return True
        now_s = self._now_s()
        if reused:
            saved.resumptions += 1
        if saved.session is None or reused:
            return now_s >= saved.expires_s
        return saved.resumptions >= _REPLACE_AFTER_RESUMPTIONS or now_s >= saved.saved_s + _REPLACE_AFTER_S

    def save(self, key: Key, context: ssl.SSLContext, connection: ssl.SSLObject) -> None:
        """Called when the host's first data has arrived: its tickets came before."""
        session, now_s = connection.session, self._now_s()
        if session is None or not session.has_ticket:
            self._put(key, _Saved(context, None, now_s, now_s + _MAX_AGE_S))
            return
        expires_s = now_s + min(_MAX_AGE_S, session.ticket_lifetime_hint)
        certificate = connection.getpeercert()
        if certificate:
            expires_s = min(expires_s, ssl.cert_time_to_seconds(str(certificate["notAfter"])))
        self._put(key, _Saved(context, session, now_s, expires_s))

    def _put(self, key: Key, saved: _Saved) -> None:
        self._saved.pop(key, None)
        if len(self._saved) >= _MAX_HOSTS:
            del self._saved[next(iter(self._saved))]  # the oldest
        self._saved[key] = saved
