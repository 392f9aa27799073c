"""The contents of the certificates. Pure functions: they do not sign and do not read a clock.

https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.ca.keys import PublicKey
from protos.spiffe import SpiffeId

# A peer's clock may be behind ours by this much (istiod's grace period).
CLOCK_SKEW_S: Final = 120.0
# The backdating is at most this share of the lifetime. Sidecars renew at half of the time between not_before
# and not_after; this keeps that moment near the middle of the remaining lifetime, also for lifetimes of
# seconds.
_MAX_SKEW_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """A period of validity. X.509 has a resolution of one second."""

    not_before: datetime
    not_after: datetime


def validity(now: float, lifetime_s: float, signer_expires: datetime | None = None) -> Validity:
    """Returns a validity that begins a little before ``now`` (seconds since the epoch), for clocks that are
    behind, and ends at the latest when the signer expires: no verifier accepts the certificate after that."""
    start = datetime.fromtimestamp(now, UTC)
    skew = timedelta(seconds=min(CLOCK_SKEW_S, lifetime_s * _MAX_SKEW_SHARE))
    end = start + timedelta(seconds=lifetime_s)
    if signer_expires is not None:
        end = min(end, signer_expires)
    return Validity(
        not_before=(start - skew).replace(microsecond=0),
        not_after=end.replace(microsecond=0),
    )


def root_certificate(trust_domain: str, key: PublicKey, valid: Validity) -> x509.CertificateBuilder:
    """A root certificate. It names its trust domain as a SPIFFE id without a path (X509-SVID section 2)."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64])])
    return (
        _certificate(subject, subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            _alternative_names(x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")), critical=False
        )
    )


def workload_certificate(
    identity: SpiffeId, key: PublicKey, issuer: x509.Certificate, valid: Validity
) -> x509.CertificateBuilder:
    """An X.509-SVID: exactly one URI and no subject, for both sides of mutual TLS."""
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return _leaf([x509.UniformResourceIdentifier(str(identity))], usages, key, issuer, valid)


def server_certificate(
    hosts: Sequence[str], key: PublicKey, issuer: x509.Certificate, valid: Validity
) -> x509.CertificateBuilder:
    """The control plane's own certificate; ``hosts`` are DNS names and IP addresses. It has no SPIFFE id, so
    no peer can take it for a workload's certificate."""
    return _leaf([_host_name(host) for host in hosts], [ExtendedKeyUsageOID.SERVER_AUTH], key, issuer, valid)


def _leaf(
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    key: PublicKey,
    issuer: x509.Certificate,
    valid: Validity,
) -> x509.CertificateBuilder:
    return (
        _certificate(x509.Name([]), issuer.subject, key, valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_authority_key_identifier(issuer), critical=False)
        # RFC 5280 4.2.1.6: critical, because the subject is empty.
        .add_extension(_alternative_names(*names), critical=True)
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, valid: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid.not_before)
        .not_valid_after(valid.not_after)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """A leaf signs handshakes only, an authority signs certificates only."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        identifier_of_key = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier_of_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)


def _alternative_names(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
