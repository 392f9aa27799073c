"""The control plane's own certificate for its TLS ports. Its authority issues it; it is renewed after half of
its lifetime, and when the signing certificate changes."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from controlplane.ca.authority import Authority
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.errors import AuthorityError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _KeyPair:
    """``chain`` and ``key`` are PEM; ``renew_at`` is in seconds since the epoch."""

    chain: bytes
    key: bytes
    renew_at: float


class ServerCertificate:
    """Provides the certificate to one server, gRPC's or an `ssl` one, at every handshake. The first handshake
    after half of the lifetime renews it; open connections keep the old one. ``clock`` returns seconds since
    the epoch."""

    def __init__(
        self, authority: Authority, hosts: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises `AuthorityUnavailableError` when the first certificate cannot be issued."""
        self._authority: Final = authority
        self._hosts: Final = tuple(hosts)
        self._clock: Final = clock
        self._signer = authority.signer
        self._current = self._issue()
        # gRPC asks for the certificate in its own threads.
        self._lock: Final = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        provided = self._current

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """Returns None to keep the provided certificate."""
            nonlocal provided
            current = self._renewed()
            if current is provided:
                return None
            provided = current
            return _for_grpc(current)

        return grpc.dynamic_ssl_server_credentials(_for_grpc(provided), fetch)

    def tls_context(self) -> ssl.SSLContext:
        """The context of a server. It requires TLS 1.3, and no certificate of the client."""
        loaded = self._current
        context = newest = _context(loaded)

        def on_handshake(
            connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext
        ) -> None:
            """OpenSSL calls it for every handshake, also for one without a server name."""
            nonlocal loaded, newest
            current = self._renewed()
            if current is not loaded:
                loaded, newest = current, _context(current)
            connection.context = newest

        context.sni_callback = on_handshake
        return context

    def _renewed(self) -> _KeyPair:
        with self._lock:
            if self._clock() >= self._current.renew_at or self._authority.signer is not self._signer:
                try:
                    self._current = self._issue()
                except AuthorityError as error:
                    _LOG.error("cannot renew the control plane's own certificate: %s", error)
            return self._current

    def _issue(self) -> _KeyPair:
        signer = self._authority.signer
        key = make_key()  # a new key each time: a leaked key is useful for one lifetime only
        issued = self._authority.issue_server(self._hosts, key.public_key())
        self._signer = signer
        now = self._clock()
        return _KeyPair(
            chain="".join(issued.chain_pem).encode("ascii"),
            key=private_key_pem(key),
            renew_at=now + (issued.leaf.not_valid_after_utc.timestamp() - now) / 2,
        )


def _for_grpc(key_pair: _KeyPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key_pair.key, key_pair.chain)])


def _context(key_pair: _KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with _in_memory(key_pair.chain) as chain, _in_memory(key_pair.key) as key:
        context.load_cert_chain(chain, key)
    return context


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path for `ssl`, which accepts only files. The key is never written to disk."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
