"""Certificates and signing requests for tests, good and bad ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from controlplane.ca.keys import PrivateKey, make_key, private_key_pem

LOOPBACK = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))


def csr_pem(
    key: PrivateKey | None = None, *, uris: tuple[str, ...] = (), dns: tuple[str, ...] = (), ca: bool = False
) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key or make_key(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


class TestAuthority:
    """A certificate for 127.0.0.1 and its key; issues others. It has no key identifiers, like many that are
    made by hand. Moments are seconds since the epoch."""

    __test__ = False

    def __init__(
        self,
        name: str,
        *,
        issuer: TestAuthority | None = None,
        not_before: float,
        not_after: float,
        ca: bool = True,
        key: PrivateKey | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(not_before, UTC))
            .not_valid_after(datetime.fromtimestamp(not_after, UTC))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([LOOPBACK]), critical=False)
            .sign(issuer.key if issuer else self.key, hashes.SHA256())
        )

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """The paths of the certificate and of the key, mode 0600."""
        certificate, key = folder / f"{name}-cert.pem", folder / f"{name}-key.pem"
        certificate.write_bytes(self.certificate_pem)
        key.touch(mode=0o600)
        key.write_bytes(private_key_pem(self.key))
        return certificate, key


def leaf_pem(authority: TestAuthority, names: Sequence[x509.GeneralName]) -> bytes:
    """A key and a certificate of these subject alternative names, whatever they are, as long as the
    authority's own."""
    key = make_key()
    signer = authority.certificate
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(signer.not_valid_before_utc)
        .not_valid_after(signer.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(authority.key, hashes.SHA256())
    )
    return private_key_pem(key) + certificate.public_bytes(Encoding.PEM)
