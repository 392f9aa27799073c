"""The control plane's own certificate for its TLS ports. Its authority issues it; it is renewed after half of
its lifetime, and when the signing certificate changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from controlplane.ca.authority import Authority
from controlplane.ca.keys import make_key, private_key_pem
from controlplane.errors import AuthorityError

_LOG = logging.getLogger(__name__)


class ServerCertificate:
    """Provides the certificate to gRPC, which asks for it at every handshake. The first handshake after half
    of the lifetime renews it; open connections keep the old one. ``clock`` returns seconds since the
    epoch."""

    def __init__(
        self, authority: Authority, hosts: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._authority: Final = authority
        self._hosts: Final = tuple(hosts)
        self._clock: Final = clock
        self._renew_at = 0.0
        self._signer = authority.signer
        # gRPC calls `_fetch` from its own threads.
        self._lock: Final = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Raises `AuthorityUnavailableError` when the first certificate cannot be issued."""
        return grpc.dynamic_ssl_server_credentials(self._issue(), self._fetch)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns None to keep the current certificate."""
        with self._lock:
            if self._clock() < self._renew_at and self._authority.signer is self._signer:
                return None
            try:
                return self._issue()
            except AuthorityError as error:
                _LOG.error("cannot renew the control plane's own certificate: %s", error)
                return None

    def _issue(self) -> grpc.ServerCertificateConfiguration:
        self._signer = self._authority.signer
        key = make_key()  # a new key each time: a leaked key is useful for one lifetime only
        issued = self._authority.issue_server(self._hosts, key.public_key())
        now = self._clock()
        self._renew_at = now + (issued.leaf.not_valid_after_utc.timestamp() - now) / 2
        chain = "".join(issued.chain_pem).encode("ascii")
        return grpc.ssl_server_certificate_configuration([(private_key_pem(key), chain)])
