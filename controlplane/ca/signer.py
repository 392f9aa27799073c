"""The signing certificate and its key, and the checks that they must pass before they are used. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from controlplane.ca.csr import MALFORMED
from controlplane.ca.keys import (
    PrivateKey,
    PublicKey,
    make_key,
    private_key_pem,
    public_key_der,
    require_strong,
)
from controlplane.ca.templates import root_certificate, validity
from controlplane.errors import SettingsError

_ROOT_LIFETIME_S: Final = 10 * 365 * 24 * 3600.0  # istiod's


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A signing certificate with its key and chain. ``intermediates`` are the certificates between the
    signing certificate and the root, without both. ``roots`` is the trust bundle; it has several roots while
    a root is being replaced."""

    certificate: x509.Certificate
    key: PrivateKey
    intermediates: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]

    @property
    def is_root(self) -> bool:
        return self.certificate in self.roots

    @property
    def expires(self) -> datetime:
        """The time at which the first certificate of the chain expires: no certificate that the signer has
        signed is valid after it."""
        return min(c.not_valid_after_utc for c in (self.certificate, *self.intermediates))

    @property
    def described(self) -> str:
        """The signing certificate, for log messages."""
        return _describe(self.certificate)

    def is_same_as(self, other: Signer) -> bool:
        """Compares certificates only: the same certificate has the same key."""
        return (self.certificate, self.intermediates, self.roots) == (
            other.certificate,
            other.intermediates,
            other.roots,
        )

    def is_trusted_by(self, roots: Sequence[x509.Certificate]) -> bool:
        """Whether the certificates that it signs chain to one of ``roots``."""
        top = (self.certificate, *self.intermediates)[-1]
        return top in roots or any(_issued(top, root) for root in roots)


@dataclass(frozen=True, slots=True)
class Pem:
    """PEM text. ``origin`` names the file, or the key of the Secret, in error texts."""

    content: bytes
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerPems:
    """A signing certificate and its key. ``chain`` holds the intermediates above it, ``roots`` the trust
    bundle; both may be omitted when the certificate is a root. ``more_roots`` are trusted in addition."""

    certificate: Pem
    key: Pem
    chain: Pem | None = None
    roots: Pem | None = None
    more_roots: Pem | None = None


def make_root(trust_domain: str, now: float) -> tuple[bytes, bytes]:
    """Returns a new self-signed root and its key, both as PEM."""
    key = make_key()
    template = root_certificate(trust_domain, key.public_key(), validity(now, _ROOT_LIFETIME_S))
    return template.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), private_key_pem(key)


def own_root(certificate: Pem, key: Pem, now: float, more_roots: Pem | None = None) -> Signer:
    """Returns the signer for a stored root that `make_root` created. Raises `SettingsError`."""
    found = len(_parse_certificates(certificate))
    if found != 1:
        raise SettingsError(f"{certificate.origin}: expected one certificate, found {found}")
    return parse_signer(SignerPems(certificate=certificate, key=key, more_roots=more_roots), now)


def parse_signer(pems: SignerPems, now: float) -> Signer:
    """Returns the signer for a root or an intermediate. Raises `SettingsError` when it cannot sign at ``now``
    (seconds since the epoch)."""
    certificate = _parse_certificates(pems.certificate)[0]
    key = _parse_key(pems.key)
    own = (certificate,) if pems.roots is None and _self_signed(certificate) else ()
    roots = (*own, *_parse_optional(pems.roots), *_parse_optional(pems.more_roots))
    if not roots:
        raise SettingsError(
            f"{pems.certificate.origin} is not self-signed: set --root-cert to the root that it chains to"
        )
    # istiod's cert-chain.pem begins with the signing certificate and may end with the root.
    intermediates = tuple(c for c in _parse_optional(pems.chain) if c != certificate and c not in roots)
    signer = Signer(certificate=certificate, key=key, intermediates=intermediates, roots=_unique(roots))
    _check(signer, pems.certificate.origin, pems.key.origin, now)
    return signer


def _check(signer: Signer, origin: str, key_origin: str, now: float) -> None:
    certificate = signer.certificate
    if public_key_der(signer.key.public_key()) != public_key_der(_strong_key(certificate, origin)):
        raise SettingsError(f"the key in {key_origin} is not the key of the certificate in {origin}")
    for above in (certificate, *signer.intermediates, *signer.roots):
        _require_authority(above, origin)
    for valid in (certificate, *signer.intermediates):
        _require_valid_at(valid, origin, now)
    _require_chain(signer, origin, now)


def _require_authority(certificate: x509.Certificate, origin: str) -> None:
    try:
        may_sign = _may_sign(certificate.extensions)
    except MALFORMED as error:
        raise SettingsError(
            f"{origin}: {_describe(certificate)} has a malformed extension: {error}"
        ) from error
    if not may_sign:
        raise SettingsError(
            f"{origin}: {_describe(certificate)} is not a CA certificate: it must not sign other certificates"
        )


def _may_sign(extensions: x509.Extensions) -> bool:
    """RFC 5280 sections 4.2.1.9 and 4.2.1.3. Verifiers reject the certificates of a signer without these."""
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        if not constraints.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as missing:
        return missing.oid == x509.KeyUsage.oid  # without a key usage, every usage is allowed


def _require_valid_at(certificate: x509.Certificate, origin: str, now: float) -> None:
    moment = datetime.fromtimestamp(now, UTC)
    if moment >= certificate.not_valid_after_utc:
        raise SettingsError(
            f"{origin}: {_describe(certificate)} expired at {certificate.not_valid_after_utc}"
        )
    if moment < certificate.not_valid_before_utc:
        raise SettingsError(
            f"{origin}: {_describe(certificate)} is not valid before {certificate.not_valid_before_utc}"
        )


def _require_chain(signer: Signer, origin: str, now: float) -> None:
    """Each certificate is issued by the next, the last by a valid root of the bundle."""
    if signer.is_root:
        return
    links = (signer.certificate, *signer.intermediates)
    for below, above in itertools.pairwise(links):
        if not _issued(below, above):
            raise SettingsError(
                f"{origin}: {_describe(below)} is not issued by the next in the chain, {_describe(above)}"
            )
    anchors = [root for root in signer.roots if _issued(links[-1], root)]
    if not anchors:
        raise SettingsError(f"{origin}: {_describe(links[-1])} does not chain to a root of the trust bundle")
    _require_valid_at(max(anchors, key=lambda root: root.not_valid_after_utc), origin, now)


def _issued(below: x509.Certificate, above: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(above)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def _self_signed(certificate: x509.Certificate) -> bool:
    return certificate.subject == certificate.issuer and _issued(certificate, certificate)


def _strong_key(certificate: x509.Certificate, origin: str) -> PublicKey:
    try:
        return require_strong(certificate.public_key())
    except MALFORMED as error:
        raise SettingsError(f"{origin}: {_describe(certificate)} has {error}") from error


def _parse_key(pem: Pem) -> PrivateKey:
    try:
        key = load_pem_private_key(pem.content, password=None)
    except MALFORMED as error:
        raise SettingsError(f"{pem.origin}: not an unencrypted PEM private key: {error}") from error
    if not isinstance(key, PrivateKey):
        kind = type(key).__name__
        raise SettingsError(f"{pem.origin}: a key of type {kind} cannot sign; EC, RSA or Ed25519 can")
    return key


def _parse_optional(pem: Pem | None) -> tuple[x509.Certificate, ...]:
    return () if pem is None else _parse_certificates(pem)


def _parse_certificates(pem: Pem) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem.content))
    except MALFORMED as error:
        raise SettingsError(f"{pem.origin}: not a PEM certificate: {error}") from error


def _unique(certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys(certificates))


def _describe(certificate: x509.Certificate) -> str:
    return f"the certificate {certificate.subject.rfc4514_string() or hex(certificate.serial_number)}"
