"""The control plane's own certificate for its TLS ports: issued by its authority, renewed at half life, and
when the signing certificate has changed."""

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
    """gRPC asks for it at every handshake, so it is renewed for the first connection after half its life;
    connections that are open keep theirs. ``clock`` gives seconds since the epoch."""

    def __init__(
        self, authority: Authority, hosts: Sequence[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._authority: Final = authority
        self._hosts: Final = tuple(hosts)
        self._clock: Final = clock
        self._renew_at = 0.0
        self._signer = authority.signer
        # gRPC calls from threads of its own.
        self._lock: Final = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Raises `AuthorityUnavailableError` when there is none to begin with."""
        return grpc.dynamic_ssl_server_credentials(self._issue(), self._fetch)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """None keeps the certificate there is."""
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
        key = make_key()  # a new one each time: a leaked key is worth one lifetime
        issued = self._authority.issue_server(self._hosts, key.public_key())
        now = self._clock()
        self._renew_at = now + (issued.leaf.not_valid_after_utc.timestamp() - now) / 2
        chain = "".join(issued.chain_pem).encode("ascii")
        return grpc.ssl_server_certificate_configuration([(private_key_pem(key), chain)])
