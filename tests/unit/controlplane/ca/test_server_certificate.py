"""The control plane's own certificate in handshakes without sockets. For gRPC, see the signing service."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time

import pytest
from cryptography import x509

from controlplane.ca.authority import Authority
from controlplane.ca.server_certificate import ServerCertificate
from controlplane.ca.signer import Pem, Signer, make_root, own_root

HALF_A_LIFE_S = 12 * 3600 + 60


def signer(ahead_s: float = 0.0) -> Signer:
    certificate, key = make_root("cluster.local", time.time() + ahead_s)
    return own_root(Pem(certificate, "certificate"), Pem(key, "key"), time.time() + ahead_s)


class Server:
    def __init__(self) -> None:
        self.now = time.time()
        self.authority = Authority(signer(), clock=lambda: self.now)
        hosts = ["localhost", "outrigger-controlplane.outrigger-system.svc"]
        certificate = ServerCertificate(self.authority, hosts, clock=lambda: self.now)
        self.context = certificate.tls_context()

    def handshake(self, name: str | None = "localhost", *, verify: bool = True) -> x509.Certificate:
        """Returns the server's certificate. ``verify``: it must chain to the authority's present roots, and
        be valid by the real clock."""
        trust = ssl.create_default_context(cadata="".join(self.authority.trust_bundle_pem))
        trust.check_hostname = name is not None
        if not verify:
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trust.wrap_bio(to_client, to_server, server_hostname=name)
        server = self.context.wrap_bio(to_server, to_client, server_side=True)
        for side in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        assert client.version() == "TLSv1.3"
        found = client.getpeercert(binary_form=True)
        assert found
        return x509.load_der_x509_certificate(found)


def test_one_certificate_serves_until_half_of_its_lifetime() -> None:
    server = Server()
    first = server.handshake()
    assert server.handshake("outrigger-controlplane.outrigger-system.svc") == first
    server.now += HALF_A_LIFE_S
    second = server.handshake(verify=False)
    assert second.serial_number != first.serial_number
    assert second.public_key() != first.public_key()
    assert server.handshake(verify=False) == second


def test_another_signing_certificate_is_used_from_the_next_handshake_on() -> None:
    server = Server()
    server.handshake()
    server.authority.use(signer())
    first = server.handshake()  # verifies with the new roots only
    assert server.handshake(name=None) == first


def test_a_failed_renewal_keeps_the_certificate_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    first = server.handshake()
    server.now += 11 * 365 * 24 * 3600.0  # the signing certificate has expired
    with caplog.at_level(logging.ERROR):
        assert server.handshake() == first
    assert "cannot renew the control plane's own certificate" in caplog.text
    server.now = time.time() + HALF_A_LIFE_S
    assert server.handshake(verify=False) != first


def test_other_names_are_not_in_it() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        Server().handshake("kubernetes.default.svc")
